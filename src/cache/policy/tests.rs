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
    assert_eq!(refused(new().due_share(0.8)), "due_share");
    assert_eq!(refused(new().expiry_margin_share(1.0)), "expiry_margin_share");
    assert_eq!(refused(new().attempts(0)), "attempts");
    assert_eq!(refused(new().attempts(11)), "attempts");
    assert_eq!(refused(new().rest_min(Duration::ZERO)), "rest_min");
    assert_eq!(refused(new().max_wait(Duration::ZERO)), "max_wait");
    assert_eq!(refused(new().strike_max(Duration::MAX)), "strike_max");
    assert_eq!(refused(new().default_lifetime(Duration::MAX)), "default_lifetime");
    assert_eq!(refused(new().attempt_timeout(MINUTE)), "attempt_timeout");
    assert_eq!(refused(new().fetch_timeout(SECOND)), "attempt_timeout");
    assert_eq!(refused(new().backoff_min(MINUTE)), "backoff_min");
    assert_eq!(refused(new().retry_after_wait(YEAR)), "retry_after_wait");
    assert_eq!(refused(new().rest_max_without_token(SECOND / 2)), "rest_min");
    assert_eq!(refused(new().permanent_rest_min(YEAR)), "permanent_rest_min");
    assert_eq!(refused(new().strike_min(YEAR)), "strike_min");
    assert_eq!(refused(new().default_lifetime(YEAR * 2)), "default_lifetime");
    new().build().unwrap();
}

#[test]
fn doubling_ends_at_the_maximum_and_never_overflows() {
    let at = |nth| doubling(SECOND, Duration::from_secs(15), nth).as_secs();
    assert_eq!([at(0), at(1), at(2), at(4), at(5), at(u32::MAX)], [1, 1, 2, 8, 15, 15]);
    assert_eq!(doubling(LONGEST, LONGEST, u32::MAX), LONGEST);
}

#[test]
fn a_short_retry_after_is_a_pause_and_a_long_one_a_rest() {
    let policy = RefreshPolicy::default();
    let after = |asked| TokenError::transient("busy").with_retry_after(asked);
    assert_eq!(policy.pause(1, &after(SECOND * 2), 0.0), Some(SECOND * 2));
    assert_eq!(policy.pause(1, &after(SECOND * 3), 0.0), None);
    assert_eq!(policy.rests(1, &after(SECOND * 3), 1.0).0, SECOND * 3);
    assert_eq!(policy.rests(1, &after(YEAR * 1000), 1.0), (MINUTE * 5, MINUTE * 5));
    assert_eq!(policy.rests(9, &after(SECOND), 0.0), (SECOND * 15, MINUTE));
}
