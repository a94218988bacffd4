//! A token that the cache must have although no caller waits for it.

use super::*;

fn kept_warm() -> World {
    World::with(|policy| policy.keep_warm(true).pause_jitter(0.0))
}

impl World {
    /// When the keeper looks again, in seconds from the start.
    fn warm_at(&self) -> f64 {
        self.seconds(self.state.warm_at(self.now))
    }

    /// What the keeper does when it wakes.
    fn keep_warm(&mut self) -> Option<Start> {
        self.state.keep_warm(self.now).start
    }
}

#[test]
fn keeping_warm_starts_a_flight_when_one_is_due_and_heeds_the_cooldown() {
    let mut warm = kept_warm();
    warm.fetch(&token("a").with_lifetime(101 * S));
    assert_eq!(warm.warm_at(), 80.0);
    assert!(warm.keep_warm().is_none(), "not yet");
    warm.pass(80.0);
    let start = warm.keep_warm().unwrap();
    assert_eq!(warm.warm_at(), 111.0, "when the flight counts as lost");
    warm.finish(&start, Err(busy()));
    assert_eq!(warm.warm_at(), 81.0, "the source cools down");
}

#[test]
fn keeping_warm_starts_at_most_one_flight_a_second_whatever_the_policy_says() {
    let mut world =
        World::with(|policy| policy.keep_warm(true).background_interval(Duration::ZERO));
    for second in 0..5 {
        let at = world.state.warm_at(world.now).unwrap();
        assert_eq!((at - world.start).as_secs(), second);
        world.now = at;
        let start = world.keep_warm().expect("a flight");
        world.finish(&start, Ok(&token("brief").with_lifetime(Duration::ZERO)));
    }
}

#[test]
fn a_cache_that_is_kept_warm_fetches_before_anybody_asks_and_after_each_cooldown() {
    let mut world = kept_warm();
    assert_eq!(world.warm_at(), 0.0);
    for next in [1.0, 3.0, 7.0, 15.0, 30.0, 45.0] {
        let start = world.keep_warm().expect("a flight");
        assert_eq!(start.request.reason(), Reason::First);
        world.finish(&start, Err(busy()));
        assert_eq!(world.warm_at(), next);
        assert!(world.keep_warm().is_none(), "it cools down");
        world.now = world.start + Duration::from_secs_f64(next);
    }
}

#[test]
fn only_what_is_to_be_kept_warm_is_and_a_first_token_is_wanted_until_it_is_here() {
    let mut world = World::new();
    assert!(!world.state.is_kept_warm());
    assert_eq!((world.state.warm_at(world.now), world.keep_warm().is_none()), (None, true));

    world.state.want(Wanted::First, world.now);
    assert!(world.state.is_kept_warm());
    assert_eq!(world.warm_at(), 0.0);
    let start = world.keep_warm().expect("a flight");
    world.finish(&start, Err(busy()));
    assert!(world.state.is_kept_warm(), "it is tried again");
    world.pass(1.0);
    let start = world.keep_warm().expect("another flight");
    world.finish(&start, Ok(&token("a").with_lifetime(101 * S))).unwrap().unwrap();
    assert!(!world.state.is_kept_warm());
    world.pass(85.0);
    assert_eq!((world.state.warm_at(world.now), world.keep_warm().is_none()), (None, true), "due");

    world.state.want(Wanted::First, world.now);
    assert!(!world.state.is_kept_warm(), "there is a token");
    world.pass(100.0);
    world.state.want(Wanted::First, world.now);
    assert_eq!(world.keep_warm().expect("a flight").request.reason(), Reason::Expired);
}

#[test]
fn a_token_that_is_expired_on_arrival_is_not_the_first_one() {
    let mut world = World::new();
    world.state.want(Wanted::First, world.now);
    let start = world.keep_warm().expect("a flight");
    world.finish(&start, Ok(&token("brief").with_lifetime(Duration::ZERO))).unwrap().unwrap();
    assert!(world.state.is_kept_warm());
    assert_eq!(world.warm_at(), 1.0);
}

#[test]
fn a_source_that_an_operator_has_to_repair_is_asked_once_a_second_whether_that_was_done() {
    let mut world = kept_warm();
    let start = world.keep_warm().expect("a flight");
    world.finish(&start, Err(no_such_client()));
    for second in 0..30 {
        assert_eq!(world.warm_at(), f64::from(second));
        assert!(world.keep_warm().is_none(), "it cools down");
        assert_eq!(world.state.may_check_recovery(world.now), Some(start.id));
        assert_eq!(world.state.may_check_recovery(world.now), None, "once");
        world.pass(1.0);
    }
    assert_eq!(world.warm_at(), 30.0);
    let start = world.keep_warm().expect("another flight");
    world.finish(&start, Err(no_such_client()));
    world.state.recovered(start.id);
    assert_eq!(world.warm_at(), 31.0, "flights are a second apart");
    world.pass(1.0);
    world.keep_warm().expect("the next flight");
}

#[test]
fn a_new_cooldown_does_not_make_the_source_be_asked_sooner() {
    let mut world = kept_warm();
    let start = world.keep_warm().expect("a flight");
    world.finish(&start, Err(no_such_client()));
    world.pass(29.5);
    assert_eq!(world.state.may_check_recovery(world.now), Some(start.id));
    let start = world.pass(0.5).keep_warm().expect("another flight");
    world.finish(&start, Err(no_such_client()));
    assert_eq!(world.warm_at(), 30.5);
    assert_eq!(world.state.may_check_recovery(world.now), None);
}

#[test]
fn what_is_to_be_there_at_any_time_is_not_given_up_when_a_first_one_is_wanted() {
    let mut world = World::holding(&token("a"), 100);
    world.state.want(Wanted::Always, world.now);
    assert_eq!(world.warm_at(), 80.0, "although there is a token");
    world.state.want(Wanted::First, world.now);
    assert_eq!(world.warm_at(), 80.0);
    let start = world.pass(80.0).keep_warm().expect("a refresh");
    world.finish(&start, Ok(&token("b").with_lifetime(101 * S))).unwrap().unwrap();
    assert_eq!(world.warm_at(), 160.0);
}

#[test]
fn a_token_that_expires_before_it_is_due_is_replaced_when_it_expires() {
    for share in [0.0, 0.05] {
        let mut world = World::with(|policy| policy.keep_warm(true).due_share(share));
        world.fetch(&token("a").with_lifetime(101 * S));
        assert_eq!(world.warm_at(), 90.0, "{share}");
        let start = world.pass(90.0).keep_warm().expect("a flight");
        assert_eq!(start.request.reason(), Reason::Expired);
    }
}
