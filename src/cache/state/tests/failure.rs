//! Failure.

use super::*;

#[test]
fn rests_double_up_to_fifteen_seconds_without_a_token() {
    let mut world = World::new();
    let mut rests = Vec::new();
    for _ in 0..7 {
        let takeoff = world.ask().1.unwrap_or_else(|| panic!("awake after {rests:?}"));
        world.land(&takeoff, Err(busy())).unwrap().unwrap_err();
        rests.push(world.rest());
        world.state.flight = None;
    }
    assert_eq!(rests, [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]);
}

#[test]
fn rests_double_up_to_sixty_seconds_with_one() {
    let mut world = World::holding(&token("a"), 100_000);
    world.pass(99_000.0);
    let mut rests = Vec::new();
    for _ in 0..8 {
        let takeoff = world.ask().1.unwrap();
        world.land(&takeoff, Err(busy())).unwrap().unwrap_err();
        let until = world.state.status(world.now).cooldown_until.unwrap();
        rests.push((until - world.now).as_secs());
        assert_eq!(given(&world.ask().0), Some("a"), "the token is still good");
        world.now = until;
    }
    assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn a_rest_is_cut_short_when_the_token_expires_meanwhile() {
    let mut world = World::holding(&token("a"), 100);
    for _ in 0..6 {
        world.pass(80.0);
        let takeoff = world.state.take_off(Reason::Due, None, world.now);
        world.land(&takeoff, Err(busy()));
        world.now = world.start;
    }
    world.pass(80.0);
    let left = |world: &World| world.seconds(world.state.status(world.now).cooldown_until);
    assert_eq!(left(&world), 112.0);
    world.pass(10.0);
    assert_eq!(left(&world), 95.0);
}

#[test]
fn a_permanent_failure_rests_from_thirty_seconds_to_five_minutes() {
    let mut world = World::new();
    let mut rests = Vec::new();
    for _ in 0..5 {
        let takeoff = world.ask().1.unwrap();
        world.land(&takeoff, Err(no_such_client()));
        rests.push(world.rest());
        world.state.flight = None;
    }
    assert_eq!(rests, [30.0, 60.0, 120.0, 240.0, 300.0]);
}

#[test]
fn another_kind_of_failure_starts_to_count_anew_and_success_forgets() {
    let mut world = World::new();
    let mut fail = |error: TokenError| {
        let takeoff = world.state.take_off(Reason::First, None, world.now);
        world.land(&takeoff, Err(error));
        (world.state.status(world.now).cooldown_until.unwrap() - world.now).as_secs()
    };
    assert_eq!([fail(busy()), fail(busy()), fail(busy())], [1, 2, 4]);
    assert_eq!([fail(no_such_client()), fail(busy())], [30, 1]);
    let takeoff = world.state.take_off(Reason::First, None, world.now);
    world.land(&takeoff, Ok(&token("a"))).unwrap().unwrap();
    let status = world.state.status(world.now);
    assert!(status.cooldown_until.is_none() && status.last_error.is_none());
}

#[test]
fn a_long_retry_after_becomes_the_rest() {
    let mut world = World::new();
    let takeoff = world.ask().1.unwrap();
    world.land(&takeoff, Err(busy().with_retry_after(42 * S)));
    assert_eq!(world.rest(), 42.0);
}

#[test]
fn a_rest_after_a_permanent_failure_ends_when_the_source_has_recovered() {
    let mut world = World::new();
    let takeoff = world.ask().1.unwrap();
    assert!(!world.state.may_probe(world.now), "there is nothing to recover from");
    world.land(&takeoff, Err(no_such_client()));
    assert!(world.state.may_probe(world.now));
    assert!(!world.state.may_probe(world.now), "once a second");
    world.pass(1.0);
    assert!(world.state.may_probe(world.now));
    world.state.recovered();
    assert!(world.ask().1.is_some());
}

#[test]
fn a_transient_failure_is_not_probed() {
    let mut world = World::new();
    let takeoff = world.ask().1.unwrap();
    world.land(&takeoff, Err(busy()));
    assert!(!world.state.may_probe(world.now));
}
