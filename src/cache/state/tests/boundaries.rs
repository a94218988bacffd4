//! The exact moment at which something begins or ends.

use super::*;

/// A source with a permanent failure, and the flight that failed.
fn failed_for_good() -> (World, FlightId) {
    let mut world = World::new();
    let start = world.ask().1.unwrap();
    world.finish(&start, Err(no_such_client())).unwrap().unwrap_err();
    (world, start.id)
}

#[test]
fn the_source_is_asked_about_its_recovery_once_a_second_from_the_second_on() {
    let (mut world, failed) = failed_for_good();
    let mut ask = |seconds| {
        world.pass(seconds);
        world.state.may_check_recovery(world.now)
    };
    assert_eq!(ask(0.0), Some(failed));
    assert_eq!(ask(0.5), None);
    assert_eq!(ask(0.5), Some(failed));
}

#[test]
fn a_cooldown_that_has_just_ended_is_over() {
    let (mut world, failed) = failed_for_good();
    let until = world.state.status(world.now).cooldown_until.expect("a cooldown");
    world.now = until - S;
    assert_eq!(world.state.may_check_recovery(world.now), Some(failed));
    world.now = until - S / 1000;
    assert_eq!(world.state.status(world.now).cooldown_until, Some(until));
    world.now = until;
    assert_eq!(world.state.status(world.now).cooldown_until, None);
    assert_eq!(world.state.may_check_recovery(world.now), None);
    assert!(world.ask().1.is_some(), "the next caller starts a flight");
}

#[test]
fn the_rejection_of_an_older_token_delays_no_caller_that_uses_the_current_one() {
    let (a, b) = (token("a"), token("b"));
    let mut world = World::holding(&a, 100_000);
    world.renew(&a, "api", &b.clone().with_lifetime(S * 100_001));
    assert!(matches!(world.reject(&b, "api").0, Answer::Error(_)), "a backoff");
    world.pass(99_000.0);
    let (answer, refresh) = world.ask();
    assert_eq!((given(&answer), refresh.is_some()), (Some("b"), true));
    // It asks for claims that the current token does not have: it waits, and then asks again.
    let claims = Challenge::new("Bearer").with_param("claims", "x");
    let rejection = rejection(&a, "other").with_challenge(claims);
    let (answer, _) = world.state.reject(&rejection, RejectedBy::Waiter, world.now);
    assert!(matches!(answer, Answer::WaitAndAskAgain(_)));
    assert_eq!(given(&world.ask().0), Some("b"));
}

#[test]
fn a_scope_is_a_demand_of_its_own_unless_the_token_is_invalid() {
    let demand = |error| {
        let challenge = Challenge::new("Bearer").with_param("error", error);
        let challenge = challenge.with_param("scope", "write");
        rejection(&token("a"), "api").with_challenge(challenge).demand()
    };
    assert!(demand("insufficient_scope").is_some());
    assert!(demand("invalid_token").is_none());
}
