//! A caller wants a new token, although none was rejected.

use super::*;

impl World {
    fn refresh(&mut self) -> (Answer, Option<Start>) {
        let (answer, effects) = self.state.refresh(self.now);
        (answer, effects.start)
    }
}

#[test]
fn a_refresh_starts_one_flight_that_all_join_and_requests_go_on_with_the_token() {
    let mut world = World::holding(&token("a"), 100);
    let (answer, start) = world.refresh();
    let start = start.expect("a flight");
    assert_eq!(start.request.reason(), Reason::Requested);
    assert!(start.request.rejected().is_none());
    assert!(matches!(answer, Answer::Wait(lost_at) if lost_at == world.now + 31 * S));
    let (answer, again) = world.refresh();
    assert!(matches!(answer, Answer::Wait(lost_at) if lost_at == world.now + 31 * S));
    assert!(again.is_none());
    assert_eq!(given(&world.ask().0), Some("a"));
    world.finish(&start, Ok(&token("b").with_lifetime(101 * S))).unwrap().unwrap();
    assert_eq!(given(&world.ask().0), Some("b"));
}

#[test]
fn a_refresh_joins_whatever_flight_is_under_way() {
    let mut world = World::holding(&token("a"), 100);
    world.pass(80.0).ask().1.expect("it is due");
    let (answer, start) = world.refresh();
    assert!(matches!(answer, Answer::Wait(_)) && start.is_none());
}

#[test]
fn within_the_background_interval_a_refresh_gets_the_current_token() {
    let mut world = World::with(|policy| policy.background_interval(5 * S));
    world.fetch(&token("a"));
    let start = world.refresh().1.expect("the first fetch was no background flight");
    world.finish(&start, Ok(&token("b"))).unwrap().unwrap();
    let (answer, start) = world.pass(4.9).refresh();
    assert_eq!((given(&answer), start.is_none()), (Some("b"), true));
    world.pass(0.1).refresh().1.expect("the interval is over");
}

#[test]
fn without_a_token_a_refresh_waits_for_no_interval() {
    let mut world = World::new();
    let start = world.refresh().1.expect("a flight");
    let expired = token("brief").with_lifetime(Duration::ZERO);
    world.finish(&start, Ok(&expired)).unwrap().unwrap();
    world.refresh().1.expect("another flight");
}

#[test]
fn a_refresh_that_fails_leaves_the_token_and_the_next_one_waits_for_the_cooldown() {
    let mut world = World::holding(&token("a"), 100);
    let start = world.refresh().1.expect("a flight");
    world.finish(&start, Err(busy())).unwrap().unwrap_err();
    let (answer, start) = world.pass(0.9).refresh();
    assert!(matches!(answer, Answer::Error(error) if error.to_string() == "busy"));
    assert!(start.is_none());
    assert_eq!(given(&world.ask().0), Some("a"));
    world.pass(0.1).refresh().1.expect("the cooldown is over");
}

#[test]
fn a_rejection_while_a_refresh_is_under_way_joins_it() {
    let a = token("a");
    let mut world = World::holding(&a, 100);
    world.refresh().1.expect("a flight");
    assert!(world.reject(&a, "api").1.is_none());
    assert!(matches!(world.ask().0, Answer::Wait(_)), "now it replaces a suspect token");
}

#[test]
fn a_refresh_gives_up_a_flight_that_is_lost() {
    let mut world = World::holding(&token("a"), 100);
    world.refresh().1.expect("a flight");
    assert!(world.pass(30.9).refresh().1.is_none());
    world.pass(0.1).refresh().1.expect("another flight");
}
