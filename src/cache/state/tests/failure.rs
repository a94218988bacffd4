//! Failure.

use super::*;

#[test]
fn cooldowns_double_up_to_fifteen_seconds_without_a_token() {
    let mut world = World::new();
    let mut cooldowns = Vec::new();
    for _ in 0..7 {
        let start = world.ask().1.unwrap_or_else(|| panic!("awake after {cooldowns:?}"));
        world.finish(&start, Err(busy())).unwrap().unwrap_err();
        cooldowns.push(world.cooldown());
        world.state.flight = None;
    }
    assert_eq!(cooldowns, [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]);
}

#[test]
fn cooldowns_double_up_to_sixty_seconds_with_one() {
    let mut world = World::holding(&token("a"), 100_000);
    world.pass(99_000.0);
    let mut cooldowns = Vec::new();
    for _ in 0..8 {
        let start = world.ask().1.unwrap();
        world.finish(&start, Err(busy())).unwrap().unwrap_err();
        let until = world.state.status(world.now).cooldown_until.unwrap();
        cooldowns.push((until - world.now).as_secs());
        assert_eq!(given(&world.ask().0), Some("a"), "the token is still good");
        world.now = until;
    }
    assert_eq!(cooldowns, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn a_cooldown_is_cut_short_when_the_token_expires_meanwhile() {
    let mut world = World::holding(&token("a"), 100);
    for _ in 0..6 {
        world.pass(80.0);
        let start = world.state.start(Reason::Due, None, world.now);
        world.finish(&start, Err(busy()));
        world.now = world.start;
    }
    world.pass(80.0);
    let left = |world: &World| world.seconds(world.state.status(world.now).cooldown_until);
    assert_eq!(left(&world), 112.0);
    world.pass(10.0);
    assert_eq!(left(&world), 95.0);
}

#[test]
fn a_permanent_failure_cools_down_from_thirty_seconds_to_five_minutes() {
    let mut world = World::new();
    let mut cooldowns = Vec::new();
    for _ in 0..5 {
        let start = world.ask().1.unwrap();
        world.finish(&start, Err(no_such_client()));
        cooldowns.push(world.cooldown());
        world.state.flight = None;
    }
    assert_eq!(cooldowns, [30.0, 60.0, 120.0, 240.0, 300.0]);
}

#[test]
fn another_kind_of_failure_restarts_the_count_and_a_success_ends_it() {
    let mut world = World::new();
    let mut fail = |error: TokenError| {
        let start = world.state.start(Reason::First, None, world.now);
        world.finish(&start, Err(error));
        (world.state.status(world.now).cooldown_until.unwrap() - world.now).as_secs()
    };
    assert_eq!([fail(busy()), fail(busy()), fail(busy())], [1, 2, 4]);
    assert_eq!([fail(no_such_client()), fail(busy())], [30, 1]);
    let start = world.state.start(Reason::First, None, world.now);
    world.finish(&start, Ok(&token("a"))).unwrap().unwrap();
    let status = world.state.status(world.now);
    assert!(status.cooldown_until.is_none() && status.last_error.is_none());
}

#[test]
fn a_long_retry_after_becomes_the_cooldown() {
    let mut world = World::new();
    let start = world.ask().1.unwrap();
    world.finish(&start, Err(busy().with_retry_after(42 * S)));
    assert_eq!(world.cooldown(), 42.0);
}

#[test]
fn a_cooldown_after_a_permanent_failure_ends_when_the_source_has_recovered() {
    let mut world = World::new();
    let start = world.ask().1.unwrap();
    assert_eq!(world.state.may_check_recovery(world.now), None, "nothing to recover from");
    world.finish(&start, Err(no_such_client()));
    let cooldown = world.state.may_check_recovery(world.now).unwrap();
    assert_eq!(world.state.may_check_recovery(world.now), None, "once a second");
    world.pass(0.9);
    assert_eq!(world.state.may_check_recovery(world.now), None);
    world.pass(0.1);
    assert_eq!(world.state.may_check_recovery(world.now), Some(cooldown));
    world.state.recovered(cooldown);
    assert!(world.ask().1.is_some());
}

#[test]
fn a_late_recovery_ends_no_later_cooldown() {
    let mut world = World::new();
    let start = world.ask().1.unwrap();
    world.finish(&start, Err(no_such_client()));
    let earlier = world.state.may_check_recovery(world.now).unwrap();
    world.pass(31.0);
    assert_eq!(world.state.may_check_recovery(world.now), None, "it is over");
    let start = world.ask().1.unwrap();
    world.finish(&start, Err(no_such_client()));
    world.state.recovered(earlier);
    assert!(world.ask().1.is_none(), "that was about another failure");
    assert!(world.cooldown() > 50.0);
    world.state.flight = None;
    let start = world.ask().1.unwrap();
    world.finish(&start, Err(busy().with_retry_after(120 * S)));
    world.state.recovered(start.id);
    assert_eq!(world.cooldown(), 120.0, "a service that is busy has not recovered");
}

#[test]
fn a_recovery_does_not_end_the_pause_that_the_service_asked_for() {
    let mut world = World::new();
    let start = world.ask().1.unwrap();
    world.finish(&start, Err(no_such_client().with_retry_after(20 * S)));
    world.state.recovered(start.id);
    assert_eq!(world.cooldown(), 20.0);
}

#[test]
fn a_client_that_is_refused_again_after_a_recovery_cools_down_longer() {
    let mut world = World::new();
    let start = world.ask().1.unwrap();
    world.finish(&start, Err(no_such_client()));
    world.state.recovered(start.id);
    let start = world.ask().1.unwrap();
    world.finish(&start, Err(no_such_client()));
    assert_eq!(world.cooldown(), 60.0);
}

#[test]
fn after_a_transient_failure_there_is_nothing_to_recover_from() {
    let mut world = World::new();
    let start = world.ask().1.unwrap();
    world.finish(&start, Err(busy()));
    assert_eq!(world.state.may_check_recovery(world.now), None);
}

#[test]
fn errors_that_were_replaced_are_dropped_outside_of_the_lock() {
    let mut world = World::new();
    let start = world.ask().1.unwrap();
    world.finish(&start, Err(busy()));
    world.pass(1.0);
    let start = world.ask().1.unwrap();
    let (_, effects) = world.state.finished(start.id, Err(busy()), world.now, 0.0);
    assert_eq!(effects.spent.len(), 1);
}
