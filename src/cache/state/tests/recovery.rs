//! After each warning there is an all-clear, once.

use super::*;

impl World {
    /// Ends a flight. Returns how many had failed before and for how long, if that is reported.
    fn told_at_end(
        &mut self,
        start: &Start,
        outcome: Result<&AccessToken, TokenError>,
    ) -> Option<(u64, f64)> {
        let outcome = outcome.map(|token| Arrival {
            token: token.clone(),
            called: self.now,
            called_wall: SystemTime::UNIX_EPOCH,
        });
        let (_, effects) = self.state.finished(start.id, outcome, self.now, self.random);
        effects.events.iter().find_map(|event| match event {
            Event::Recovered(it) => Some((it.failures, it.failing_for.as_secs_f64())),
            _ => None,
        })
    }

    /// The origins reported to accept tokens again, each with its number of backoffs.
    fn told_of_acceptance(&mut self, token: &AccessToken, at: Option<&str>) -> Vec<(String, u32)> {
        let effects = self.state.accepted(token, at.map(origin).as_ref(), self.now);
        let told = effects.events.iter().map(|event| match event {
            Event::AcceptedAgain(it) => {
                let origin = it.origin.as_ref().map_or("none".to_owned(), ToString::to_string);
                (origin, it.backoffs)
            }
            other => panic!("{other:?}"),
        });
        told.collect()
    }
}

#[test]
fn the_first_token_after_failures_is_reported_once_with_their_number_and_time() {
    let mut world = World::new();
    let start = world.ask().1.unwrap();
    assert_eq!(world.told_at_end(&start, Err(busy())), None);
    let start = world.pass(1.0).ask().1.unwrap();
    assert!(world.state.lost(start.id, &CacheError::SourcePanicked, world.now).0);
    let start = world.pass(2.0).ask().1.unwrap();
    assert_eq!(world.told_at_end(&start, Err(no_such_client())), None);
    let start = world.pass(30.0).ask().1.unwrap();
    let brief = token("a").with_lifetime(101 * S);
    assert_eq!(world.told_at_end(&start, Ok(&brief)), Some((3, 33.0)));
    let start = world.pass(80.0).ask().1.unwrap();
    assert_eq!(world.told_at_end(&start, Ok(&brief)), None);
}

#[test]
fn the_very_token_that_was_rejected_is_no_all_clear() {
    let a = token("a");
    let mut world = World::holding(&a, 100);
    let start = world.reject(&a, "api").1.unwrap();
    assert_eq!(world.told_at_end(&start, Err(busy())), None);
    let start = world.pass(1.0).reject(&a, "api").1.unwrap();
    assert_eq!(world.told_at_end(&start, Ok(&a)), None);
    let start = world.pass(10.0).reject(&a, "api").1.unwrap();
    assert_eq!(world.told_at_end(&start, Ok(&token("b"))), Some((1, 11.0)));
}

#[test]
fn a_revocation_is_healed_where_the_new_token_was_waited_for_and_is_accepted() {
    let (a, b) = (token("a"), token("b"));
    let mut world = World::holding(&a, 100);
    assert_eq!(world.told_of_acceptance(&a, Some("api")), [], "it had rejected nothing");
    let start = world.reject(&a, "api").1.unwrap();
    assert!(world.reject(&a, "too").1.is_none(), "it waits for the same flight");
    world.finish(&start, Ok(&b)).unwrap().unwrap();
    assert_eq!(world.told_of_acceptance(&b, Some("other")), []);
    assert_eq!(world.told_of_acceptance(&b, Some("api")), [("https://api".to_owned(), 0)]);
    assert_eq!(world.told_of_acceptance(&b, Some("api")), [], "once");
    assert_eq!(world.told_of_acceptance(&b, Some("too")), [("https://too".to_owned(), 0)]);
    world.renew(&b, "api", &token("c"));
    assert_eq!(world.told_of_acceptance(&b, Some("api")), [], "that is the old one");
}

#[test]
fn an_origin_that_backed_off_is_reported_with_its_backoffs_when_it_accepts_a_token() {
    let (a, b, c) = (token("a"), token("b"), token("c"));
    let mut world = World::holding(&a, 1000);
    world.renew(&a, "api", &b);
    assert!(world.reject(&b, "api").1.is_none(), "the first backoff");
    world.pass(5.0).renew(&b, "api", &c);
    assert!(world.reject(&c, "api").1.is_none(), "the second one");
    assert_eq!(world.told_of_acceptance(&c, Some("api")), [("https://api".to_owned(), 2)]);
    assert_eq!(world.told_of_acceptance(&c, Some("api")), []);
}

#[test]
fn the_backoff_of_rejections_without_an_origin_ends_with_any_acceptance_and_is_reported() {
    for accepting in [None, Some("api")] {
        let (a, b) = (token("a"), token("b"));
        let mut world = World::holding(&a, 1000);
        let reject = |world: &mut World, token: &AccessToken| {
            let rejection = Rejection::new(token.clone());
            world.state.reject(&rejection, RejectedBy::Waiter, world.now).1.start
        };
        let start = reject(&mut world, &a).expect("a renewal");
        world.finish(&start, Ok(&b)).unwrap().unwrap();
        assert!(reject(&mut world, &b).is_none(), "a backoff");
        assert_eq!(world.told_of_acceptance(&b, accepting), [("none".to_owned(), 1)]);
        assert_eq!(world.told_of_acceptance(&b, accepting), []);
    }
}
