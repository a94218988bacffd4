use super::*;

fn refused(builder: RefreshPolicyBuilder) -> &'static str {
    builder.build().unwrap_err().field()
}

#[test]
fn a_number_out_of_range_or_in_contradiction_is_refused_by_name() {
    let new = RefreshPolicy::builder;
    assert_eq!(refused(new().due_share(1.5)), "due_share");
    assert_eq!(refused(new().due_share(f64::NAN)), "due_share");
    assert_eq!(refused(new().due_jitter(-0.1)), "due_jitter");
    assert_eq!(refused(new().pause_jitter(1.1)), "pause_jitter");
    assert_eq!(refused(new().due_share(0.8)), "due_share");
    assert_eq!(refused(new().attempts(0)), "attempts");
    assert_eq!(refused(new().attempts(11)), "attempts");
    assert_eq!(refused(new().cooldown_max(Duration::ZERO)), "cooldown_max");
    assert_eq!(refused(new().max_wait(Duration::ZERO)), "max_wait");
    assert_eq!(refused(new().fetch_timeout(Duration::ZERO)), "fetch_timeout");
    assert_eq!(refused(new().background_interval(Duration::MAX)), "background_interval");
    assert_eq!(refused(new().default_lifetime(Duration::MAX)), "default_lifetime");
    assert_eq!(refused(new().attempt_timeout(MINUTE).fetch_timeout(SECOND)), "attempt_timeout");
    assert_eq!(refused(new().default_lifetime(YEAR * 2)), "default_lifetime");
    let seconds_of_a_year = Duration::from_secs(31_536_000);
    assert_eq!(refused(new().default_lifetime(seconds_of_a_year + SECOND)), "default_lifetime");
    new().default_lifetime(seconds_of_a_year).build().unwrap();
    new().background_interval(Duration::ZERO).expiry_margin(Duration::ZERO).build().unwrap();
    new().build().unwrap();
}

#[test]
fn what_the_user_sets_wins_over_what_the_source_suggests() {
    let limits = |builder: RefreshPolicyBuilder, suggested: Option<u64>| {
        let policy = builder.build().unwrap().for_source(suggested.map(Duration::from_secs));
        [policy.attempt_limit(), policy.fetch_limit()].map(|limit| limit.as_secs())
    };
    let new = RefreshPolicy::builder;
    assert_eq!(limits(new(), None), [10, 30]);
    assert_eq!(limits(new(), Some(120)), [120, 120]);
    assert_eq!(limits(new().attempt_timeout(3 * SECOND), Some(120)), [3, 30]);
    assert_eq!(limits(new().fetch_timeout(MINUTE), Some(120)), [60, 60]);
    assert_eq!(limits(new().fetch_timeout(5 * SECOND), None), [5, 5]);
    assert_eq!(limits(new().attempt_timeout(MINUTE), None), [60, 60]);
}

#[test]
fn doubling_ends_at_the_maximum_and_never_overflows() {
    let at = |nth| doubling((SECOND, Duration::from_secs(15)), nth).as_secs();
    assert_eq!([at(0), at(1), at(2), at(4), at(5), at(u32::MAX)], [1, 1, 2, 8, 15, 15]);
    assert_eq!(doubling((LONGEST, LONGEST), u32::MAX), LONGEST);
}

#[test]
fn a_short_retry_after_is_a_pause_and_a_long_one_a_cooldown() {
    let policy = RefreshPolicy::default();
    let after = |asked| TokenError::transient("busy").with_retry_after(asked);
    assert_eq!(policy.pause(1, &after(SECOND * 2), 0.0), Some(SECOND * 2));
    assert_eq!(policy.pause(1, &after(Duration::from_millis(2001)), 0.0), None);
    assert_eq!(policy.cooldowns(1, &after(SECOND * 3), 1.0).0, SECOND * 3);
    assert_eq!(policy.cooldowns(1, &after(YEAR * 1000), 1.0), (MINUTE * 5, MINUTE * 5));
    assert_eq!(policy.cooldowns(9, &after(SECOND), 0.0), (SECOND * 15, MINUTE));
}

#[test]
fn pauses_between_attempts_double_up_to_two_seconds() {
    let policy = RefreshPolicy::builder().attempts(10).build().unwrap();
    let pause = |made| policy.pause(made, &TokenError::transient("busy"), 0.0);
    let expected = [250, 500, 1000, 2000, 2000].map(|millis| Some(Duration::from_millis(millis)));
    assert_eq!([1, 2, 3, 4, 9].map(pause), expected);
    assert_eq!(pause(10), None);
}

#[test]
fn a_longest_cooldown_below_the_first_one_is_the_first_too() {
    let policy = RefreshPolicy::builder().cooldown_max(SECOND / 4).build().unwrap();
    let cooldowns = |nth| policy.cooldowns(nth, &TokenError::transient("busy"), 0.0);
    assert_eq!(cooldowns(1), (SECOND / 4, SECOND / 4));
    assert_eq!(cooldowns(9), (SECOND / 4, SECOND));
}

#[test]
fn jitter_makes_a_pause_shorter_and_never_longer() {
    let policy = RefreshPolicy::builder().pause_jitter(0.5).build().unwrap();
    let first = |random| policy.cooldowns(1, &TokenError::transient("busy"), random).0;
    assert_eq!([first(0.0), first(0.5), first(1.0)], [SECOND, SECOND * 3 / 4, SECOND / 2]);
}

#[test]
fn a_retry_after_that_could_be_waited_for_is_a_cooldown_at_least() {
    let policy = RefreshPolicy::default();
    let after = |nth, asked| {
        policy.cooldowns(nth, &TokenError::transient("busy").with_retry_after(asked), 0.0)
    };
    assert_eq!(after(9, SECOND * 2), (SECOND * 15, MINUTE));
    assert_eq!(after(1, SECOND * 2), (SECOND * 2, SECOND * 2));
    assert_eq!(after(9, SECOND * 3), (SECOND * 3, SECOND * 3), "the service knows better");
}

#[test]
fn a_share_that_reaches_the_whole_life_with_its_jitter_is_refused() {
    let new = RefreshPolicy::builder;
    assert_eq!(refused(new().due_share(0.5).due_jitter(1.0)), "due_share");
    new().due_share(0.5).due_jitter(0.99).build().unwrap();
}

#[test]
fn a_token_that_has_ended_says_nothing_of_the_one_after_it() {
    let now = Instant::now();
    let dates = |end| Dates { due: now, expired: end, end };
    let due = |before: Instant, end: Instant| {
        let mut after = dates(end);
        after.wait_if_nothing_was_gained(Some(dates(before)), now);
        after.due - now
    };
    assert_eq!(due(now + MINUTE, now + MINUTE), MINUTE / 2, "nothing was gained");
    assert_eq!(due(now + MINUTE, now + 2 * MINUTE), Duration::ZERO);
    assert_eq!(due(now, now + SECOND / 20), Duration::ZERO, "it has ended");
}
