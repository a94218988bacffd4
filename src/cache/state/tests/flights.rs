//! Flights.

use super::*;

#[test]
fn the_first_caller_starts_a_flight_and_the_others_wait_for_it() {
    let mut world = World::new();
    let (answer, start) = world.ask();
    assert!(matches!(answer, Answer::Wait(_)));
    assert_eq!(start.unwrap().request.reason(), Reason::First);
    for _ in 0..3 {
        assert!(matches!(world.ask(), (Answer::Wait(_), None)));
    }
}

#[test]
fn a_flight_that_was_given_up_publishes_nothing_when_it_comes_back() {
    let mut world = World::new();
    let lost = world.ask().1.unwrap();
    world.pass(31.0);
    let next = world.ask().1.expect("a new flight");
    assert!(world.finish(&lost, Ok(&token("late"))).is_none());
    assert!(world.state.token(world.now).is_none());
    assert!(matches!(world.ask(), (Answer::Wait(_), None)), "the new flight is still under way");
    world.finish(&next, Ok(&token("b"))).unwrap().unwrap();
    assert_eq!(given(&world.ask().0), Some("b"));
}

#[test]
fn a_lost_flight_is_no_answer_of_the_source_so_there_is_no_cooldown() {
    let mut world = World::new();
    let start = world.ask().1.unwrap();
    let mut lose = || world.state.lost(start.id, &CacheError::SourcePanicked, world.now);
    assert!(lose().0);
    assert!(!lose().0, "it is lost once");
    assert_eq!(world.state.status(world.now).failures, 1);
    assert!(world.ask().1.is_some());
}

#[test]
fn the_next_fetch_is_shown_what_is_known() {
    let mut world = World::holding(&token("a").with_refresh_token("r"), 100);
    let challenge = crate::challenge::Challenge::new("Bearer").with_param("error", "invalid_token");
    let rejection = rejection(&token("a"), "api").with_challenge(challenge.clone());
    let request =
        world.state.reject(&rejection, RejectedBy::Waiter, world.now).1.start.unwrap().request;
    assert_eq!(request.reason(), Reason::Rejected);
    assert_eq!(request.previous().unwrap().refresh_token(), Some("r"));
    assert_eq!(request.rejected().unwrap().secret(), "a");
    assert_eq!(request.challenge(), Some(&challenge));
}

#[test]
fn a_token_that_expired_on_arrival_leaves_its_refresh_token() {
    let mut world = World::new();
    world.fetch(&token("a").with_lifetime(Duration::ZERO).with_refresh_token("r"));
    let request = world.ask().1.expect("it was not kept").request;
    assert_eq!(request.reason(), Reason::Expired);
    assert_eq!(request.previous().unwrap().refresh_token(), Some("r"));
}

#[test]
fn what_a_flight_that_was_given_up_brings_is_left_to_be_dropped_without_the_lock() {
    let mut world = World::new();
    let lost = world.ask().1.unwrap();
    world.pass(31.0).ask().1.unwrap();
    let (outcome, effects) = world.state.finished(lost.id, Err(busy()), world.now, 0.0);
    assert!(outcome.is_none());
    assert_eq!(effects.spent.len(), 1);
}
