//! Lifetime.

use super::*;

#[test]
fn a_token_is_due_in_the_last_fifth_and_expired_ten_seconds_early() {
    let world = World::holding(&token("a"), 1000);
    let status = world.state.status(world.now);
    assert_eq!((world.seconds(status.due), world.seconds(status.expiry)), (800.0, 990.0));
}

#[test]
fn jitter_lengthens_the_due_window_by_up_to_half() {
    let mut world = World::new();
    world.random = 1.0;
    world.fetch(&token("a").with_lifetime(1001 * S));
    assert_eq!(world.seconds(world.state.status(world.now).due), 700.0);
}

/// When a token is due that lives 1000 s (990 s until the margin), if it says so itself.
fn due(said: u32, random: f64, policy: fn(RefreshPolicyBuilder) -> RefreshPolicyBuilder) -> f64 {
    let mut world = World::with(policy);
    world.random = random;
    world.fetch(&token("a").with_lifetime(1001 * S).with_refresh_in(said * S));
    let status = world.state.status(world.now);
    assert_eq!(world.seconds(status.expiry), 990.0, "no word changes that");
    world.seconds(status.due)
}

#[test]
fn a_token_is_due_when_its_service_says_and_jitter_puts_that_off_but_not_past_the_margin() {
    let default = |policy| policy;
    assert_eq!(due(500, 0.0, default), 500.0);
    assert_eq!(due(500, 1.0, default), 745.0, "up to half of the 490 s that are left");
    assert_eq!(due(500, 1.0, |policy| policy.due_jitter(0.0)), 500.0);
    assert_eq!(due(989, 1.0, default), 989.5);
    assert_eq!(due(989, 1.0, |policy| policy.due_share(0.4).due_jitter(1.0)), 990.0);
}

#[test]
fn a_due_date_at_or_after_the_expiry_is_ignored() {
    for said in [990, 991, 100_000] {
        assert_eq!(due(said, 0.0, |policy| policy), 800.0, "{said}");
    }
}

#[test]
fn a_token_that_says_that_it_is_due_at_once_waits_for_the_background_interval() {
    assert_eq!(due(0, 0.0, |policy| policy), 1.0);
    assert_eq!(due(3, 0.0, |policy| policy.background_interval(5 * S)), 5.0);
    assert_eq!(due(6, 0.0, |policy| policy.background_interval(5 * S)), 6.0);
    let interval = |policy: RefreshPolicyBuilder| policy.background_interval(2000 * S);
    assert_eq!(due(3, 0.0, interval), 990.0, "never past the margin");
}

#[test]
fn a_long_life_is_put_off_by_half_of_thirty_minutes_at_most() {
    let mut world = World::new();
    world.random = 1.0;
    world.fetch(&token("a").with_lifetime(86_400 * S).with_refresh_in(43_200 * S));
    assert_eq!(world.seconds(world.state.status(world.now).due), 44_100.0);
}

#[test]
fn a_date_counts_from_the_call_of_fetch_and_a_time_wins_over_it() {
    let called = SystemTime::UNIX_EPOCH + 1000 * S;
    let said = |token: AccessToken| RefreshPolicy::said_due(&token, called);
    let dated = token("a").with_refresh_on(called + 30 * S);
    assert_eq!(said(token("a")), None);
    assert_eq!(said(dated.clone()), Some(30 * S));
    assert_eq!(said(dated.with_refresh_in(20 * S)), Some(20 * S));
    assert_eq!(said(token("a").with_refresh_on(called - S)), None, "a clock that is ahead");
}

#[test]
fn a_token_whose_end_is_not_known_is_never_due_whatever_is_said() {
    let mut world = World::new();
    world.fetch(&token("a").with_refresh_in(5 * S));
    assert_eq!(world.state.status(world.now).due(), None);
    assert!(world.pass(1000.0).ask().1.is_none());
}

#[test]
fn the_due_window_is_at_most_thirty_minutes() {
    let world = World::holding(&token("a"), 360_000);
    assert_eq!(world.seconds(world.state.status(world.now).due), 358_200.0);
}

#[test]
fn a_short_life_expires_a_tenth_of_itself_early() {
    let world = World::holding(&token("a"), 10);
    assert_eq!(world.seconds(world.state.status(world.now).expiry), 9.0);
}

#[test]
fn a_lifetime_in_whole_seconds_counts_a_second_less_and_never_less_than_half() {
    let policy = RefreshPolicy::default();
    let life = |lifetime| policy.life(&token("a").with_lifetime(lifetime), SystemTime::UNIX_EPOCH);
    assert_eq!(life(10 * S), Some(9 * S));
    assert_eq!(life(S), Some(S / 2));
    assert_eq!(life(Duration::from_millis(2500)), Some(Duration::from_millis(2500)));
    assert_eq!(life(Duration::ZERO), Some(Duration::ZERO));
}

#[test]
fn a_lifetime_is_clamped_and_cannot_overflow() {
    for lifetime in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(1 << 40)] {
        let mut world = World::new();
        world.fetch(&token("a").with_lifetime(lifetime));
        let expiry = world.state.status(world.now).expiry.unwrap();
        assert_eq!(expiry - world.start, Duration::from_secs(365 * 24 * 3600 - 10));
    }
    let mut world = World::new();
    let end_of_time = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(u32::MAX) * 1000);
    world.fetch(&token("a").with_expiry(end_of_time));
    assert_eq!(given(&world.ask().0), Some("a"));
}

#[test]
fn the_relative_lifetime_wins_then_the_absolute_one_then_the_default() {
    let policy = RefreshPolicy::builder().default_lifetime(50 * S).build().unwrap();
    let called = SystemTime::UNIX_EPOCH + 1000 * S;
    let absolute = token("a").with_expiry(called + 30 * S);
    assert_eq!(policy.life(&absolute.clone().with_lifetime(20 * S), called), Some(19 * S));
    assert_eq!(policy.life(&absolute, called), Some(30 * S));
    assert_eq!(policy.life(&token("a").with_expiry(called - S), called), Some(Duration::ZERO));
    assert_eq!(policy.life(&token("a"), called), Some(50 * S));
    assert_eq!(RefreshPolicy::default().life(&token("a"), called), None);
}

#[test]
fn the_age_is_counted_from_the_call_of_fetch() {
    let mut world = World::new();
    let start = world.ask().1.unwrap();
    let called = world.now;
    world.pass(20.0);
    let arrival = Arrival {
        token: token("a").with_lifetime(101 * S),
        called,
        called_wall: SystemTime::UNIX_EPOCH,
    };
    world.state.finished(start.id, Ok(arrival), world.now, 0.0).0.unwrap().unwrap();
    assert_eq!(world.seconds(world.state.status(world.now).expiry), 90.0);
}

#[test]
fn a_due_token_is_used_and_the_first_caller_starts_a_refresh() {
    let mut world = World::holding(&token("a"), 100);
    world.pass(79.9);
    assert!(world.ask().1.is_none());
    world.pass(0.1);
    let (answer, start) = world.ask();
    assert_eq!(given(&answer), Some("a"));
    assert_eq!(start.unwrap().request.reason(), Reason::Due);
    let (answer, start) = world.ask();
    assert_eq!((given(&answer), start.is_none()), (Some("a"), true));
}

#[test]
fn a_refresh_that_takes_long_is_not_started_twice() {
    let mut world = World::holding(&token("a"), 100);
    world.pass(80.0).ask().1.unwrap();
    for _ in 0..9 {
        assert!(world.pass(1.0).ask().1.is_none());
    }
}

#[test]
fn a_refresh_that_brings_an_expired_token_takes_nothing_away() {
    let mut world = World::holding(&token("a"), 100);
    let start = world.pass(80.0).ask().1.unwrap();
    world.finish(&start, Ok(&token("b").with_lifetime(Duration::ZERO))).unwrap().unwrap();
    assert_eq!(given(&world.ask().0), Some("a"));
}

#[test]
fn what_is_published_may_be_used_exactly_until_the_state_has_something_to_say() {
    let mut world = World::holding(&token("a"), 100);
    assert_eq!(world.seconds(world.state.granted(None, world.now).unwrap().until), 80.0);
    world.pass(80.0).ask().1.unwrap();
    let until = world.state.granted(None, world.now).unwrap().until;
    assert_eq!(world.seconds(until), 90.0, "the flight is under way: until the token expires");
    world.pass(10.0);
    assert!(world.state.granted(None, world.now).is_none());

    let mut world = World::new();
    world.fetch(&token("eternal"));
    assert_eq!(world.state.granted(None, world.now).unwrap().until, None);
}

#[test]
fn a_refresh_that_brings_no_later_expiry_is_not_repeated_before_half_of_the_rest() {
    let mut world = World::with(|policy| policy.due_share(0.6).due_jitter(0.0));
    let end = SystemTime::UNIX_EPOCH + 100 * S;
    let fetched = |world: &World, secret: &str| Arrival {
        token: token(secret).with_expiry(end),
        called: world.now,
        called_wall: SystemTime::UNIX_EPOCH + (world.now - world.start),
    };
    let start = world.ask().1.unwrap();
    let arrival = fetched(&world, "a");
    world.state.finished(start.id, Ok(arrival), world.now, 0.0);

    let start = world.pass(80.0).ask().1.unwrap();
    let arrival = fetched(&world, "b");
    world.state.finished(start.id, Ok(arrival), world.now, 0.0);
    assert!(world.pass(9.9).ask().1.is_none(), "without that rule it is due after 8 s");
    assert!(world.pass(0.2).ask().1.is_some());
}

#[test]
fn background_flights_start_at_most_once_a_second() {
    // Each token is due a tenth of a second after it came.
    let mut world = World::with(|policy| policy.due_share(0.99).due_jitter(0.0));
    let short = token("a").with_lifetime(Duration::from_millis(10_500));
    world.fetch(&short);
    let first = world.pass(0.2).ask().1.expect("due");
    world.finish(&first, Ok(&short)).unwrap().unwrap();
    assert!(world.pass(0.2).ask().1.is_none());
    let next = world.state.granted(None, world.now).unwrap().until;
    assert!((world.seconds(next) - 1.2).abs() < 1e-6);
    assert!(world.pass(0.8).ask().1.is_some());
}
