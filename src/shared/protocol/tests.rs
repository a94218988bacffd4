use super::*;

const ME: Holder = [1; 16];
const OTHER: Holder = [2; 16];
const LEASE: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(7);
const NOW: StoreTime = StoreTime(1_000_000);

fn rules(rotates: bool) -> Rules {
    Rules { lease: LEASE, rotates, settle: Some(SETTLE) }
}

fn after(seconds: u64) -> StoreTime {
    NOW.plus(Duration::from_secs(seconds))
}

/// A token that was fetched now and lives for an hour.
fn token(secret: &str) -> Stored {
    Stored {
        secret: Zeroizing::new(secret.to_owned()),
        refresh_token: None,
        scope: None,
        fetched_at: NOW,
        expires_at: Some(after(3600)),
        due_at: None,
        renewed: false,
    }
}

fn with_refresh_token(secret: &str, refresh_token: &str) -> Stored {
    Stored { refresh_token: Some(Zeroizing::new(refresh_token.to_owned())), ..token(secret) }
}

fn record(generation: u64, token: Stored) -> Record {
    Record { generation, token: Some(token), ..Record::default() }
}

fn leased(record: &Record, holder: Holder) -> Record {
    Record { lease: Some(Lease::of(holder, LEASE, NOW)), ..record.clone() }
}

fn access(secret: &str) -> AccessToken {
    AccessToken::new(secret).unwrap()
}

fn first() -> Want {
    Want::of(&TokenRequest::new(Reason::First))
}

fn wants(reason: Reason, previous: &str) -> Want {
    let request = TokenRequest::new(reason).with_previous(access(previous));
    Want::of(&match reason {
        Reason::Rejected => request.with_rejected(access(previous)),
        _ => request,
    })
}

fn ask_at(want: &Want, rotates: bool, seen: Option<&Record>, now: StoreTime) -> Step {
    ask(want, ME, &rules(rotates), seen, None, now)
}

/// The lead and the record of a process that asks and whose write succeeds.
fn lead(rotates: bool, seen: &Record, now: StoreTime) -> (Lead, Record) {
    let want = wants(Reason::Requested, "none-of-them");
    let want = seen.token.as_ref().map_or(want, |it| wants(Reason::Requested, &it.secret));
    let Step::Write(mut written) = ask_at(&want, rotates, Some(seen), now) else {
        panic!("no write")
    };
    let mut now = now;
    if written.lease.is_some_and(|lease| lease.is_grace) {
        now = now.plus(GRACE);
        let step = ask_at(&want, rotates, Some(&written), now);
        let Step::Write(after_grace) = step else { panic!("{step:?}") };
        written = after_grace;
    }
    match ask_at(&want, rotates, Some(&written), now) {
        Step::Lead(lead) => (lead, written),
        step => panic!("{step:?}"),
    }
}

// ===== Asking =====

#[test]
fn a_process_that_finds_nothing_leads() {
    let Step::Write(written) = ask_at(&first(), false, None, NOW) else { panic!("no write") };
    assert!(matches!(ask_at(&first(), false, Some(&written), NOW), Step::Lead(_)));
    let step = ask(&first(), OTHER, &rules(false), Some(&written), None, after(1));
    assert_eq!(step, Step::Wait(Duration::from_secs(29)));
}

#[test]
fn a_process_that_finds_a_token_takes_it_even_while_another_leads() {
    let seen = leased(&record(1, token("a")), OTHER);
    assert_eq!(ask_at(&first(), false, Some(&seen), NOW), Step::Have(token("a")));
}

#[test]
fn a_token_that_is_due_rejected_or_not_wanted_any_more_is_not_taken() {
    let seen = record(1, token("a"));
    for reason in [Reason::Due, Reason::Rejected, Reason::Requested] {
        let step = ask_at(&wants(reason, "a"), false, Some(&seen), NOW);
        assert!(matches!(step, Step::Write(_)), "{reason:?}");
        assert_eq!(ask_at(&wants(reason, "b"), false, Some(&seen), NOW), Step::Have(token("a")));
    }
}

#[test]
fn whether_a_token_has_expired_is_for_the_stores_clock_to_say() {
    let want = wants(Reason::Expired, "a");
    let seen = record(1, token("a"));
    assert_eq!(ask_at(&want, false, Some(&seen), after(3589)), Step::Have(token("a")));
    assert!(matches!(ask_at(&want, false, Some(&seen), after(3590)), Step::Write(_)));
    let endless = record(1, Stored { expires_at: None, ..token("a") });
    assert!(matches!(ask_at(&want, false, Some(&endless), NOW), Step::Write(_)));
}

#[test]
fn a_lease_that_has_ended_is_anybodys() {
    let seen = leased(&record(1, token("a")), OTHER);
    let want = wants(Reason::Due, "a");
    assert!(matches!(ask_at(&want, false, Some(&seen), after(29)), Step::Wait(_)));
    assert!(matches!(ask_at(&want, false, Some(&seen), after(30)), Step::Write(_)));
}

#[test]
fn a_lease_of_a_clock_that_was_set_back_does_not_last() {
    let seen = leased(&record(1, token("a")), OTHER);
    let before = StoreTime(NOW.0 - 1);
    assert!(matches!(ask_at(&wants(Reason::Due, "a"), false, Some(&seen), before), Step::Write(_)));
}

#[test]
fn a_renewed_token_is_not_renewed_again_at_once() {
    let seen = record(1, Stored { renewed: true, ..token("a") });
    let want = wants(Reason::Rejected, "a");
    let left = Duration::from_secs(1);
    assert_eq!(ask_at(&want, false, Some(&seen), after(4)), Step::TooSoon(left));
    assert!(matches!(ask_at(&want, false, Some(&seen), after(5)), Step::Write(_)));
    // The clock was set back.
    assert!(matches!(ask_at(&want, false, Some(&seen), StoreTime(0)), Step::Write(_)));
    // A process whose older token was rejected takes it.
    let other = wants(Reason::Rejected, "older");
    assert!(matches!(ask_at(&other, false, Some(&seen), after(4)), Step::Have(_)));
}

// ===== A store that was emptied =====

#[test]
fn a_process_that_holds_a_fresh_token_puts_it_back_without_a_fetch() {
    let held = record(7, token("a"));
    let step = ask(&first(), ME, &rules(false), None, Some(&held), NOW);
    assert_eq!(step, Step::Write(held.clone()));
    let step = ask(&first(), ME, &rules(false), Some(&held), Some(&held), NOW);
    assert_eq!(step, Step::Have(token("a")));
}

#[test]
fn a_token_that_has_expired_is_not_put_back() {
    let held = record(7, token("a"));
    assert_eq!(put_back(&rules(false), None, Some(&held), after(3600)), None);
    // But a refresh token has not.
    let held = record(7, with_refresh_token("a", "r"));
    assert!(put_back(&rules(true), None, Some(&held), after(3600)).is_some());
}

#[test]
fn a_newer_record_is_put_in_the_place_of_an_older_one_and_never_the_other_way_round() {
    let (older, newer) = (record(7, token("a")), record(8, token("b")));
    assert_eq!(put_back(&rules(false), Some(&older), Some(&newer), NOW), Some(newer.clone()));
    assert_eq!(put_back(&rules(false), Some(&newer), Some(&older), NOW), None);
    assert_eq!(put_back(&rules(false), Some(&newer), Some(&newer), NOW), None);
}

#[test]
fn nothing_is_spent_until_an_emptied_store_has_settled() {
    let Step::Write(settling) = ask_at(&first(), true, None, NOW) else { panic!("no write") };
    assert_eq!(ask_at(&first(), true, Some(&settling), NOW), Step::Wait(SETTLE));
    let (lead, _) = lead(true, &settling, after(7));
    assert!(!lead.is_in_doubt(), "nobody has sent anything");

    let held = record(7, with_refresh_token("a", "r"));
    let put_back = put_back(&rules(true), Some(&settling), Some(&held), after(1)).unwrap();
    assert_eq!(ask_at(&first(), true, Some(&put_back), after(1)), Step::Have(held.token.unwrap()));
    let want = wants(Reason::Due, "a");
    assert_eq!(ask_at(&want, true, Some(&put_back), after(1)), Step::Wait(SETTLE));
}

#[test]
fn a_process_that_could_not_put_anything_back_while_a_store_settled_has_time_after_it() {
    let Step::Write(settling) = ask_at(&first(), true, None, NOW) else { panic!("no write") };
    // The store was away for all of that time, and comes back.
    let Step::Write(in_grace) = ask_at(&first(), true, Some(&settling), after(90)) else {
        panic!("no write")
    };
    assert_eq!(ask_at(&first(), true, Some(&in_grace), after(90)), Step::Wait(GRACE));
    let (_, written) = lead(true, &settling, after(90));
    assert_eq!(written.doubt, Doubt::None, "nobody has sent anything");
}

#[test]
fn a_store_that_does_not_forget_needs_not_settle() {
    let rules = Rules { settle: None, ..rules(true) };
    let Step::Write(written) = ask(&first(), ME, &rules, None, None, NOW) else { panic!() };
    assert!(matches!(ask(&first(), ME, &rules, Some(&written), None, NOW), Step::Lead(_)));
}

// ===== Leading =====

#[test]
fn a_late_success_wins_over_the_lease_of_a_successor() {
    let (late, written) = lead(true, &record(1, with_refresh_token("a", "r-1")), NOW);
    let (successor, by_successor) = lead(true, &written, after(30));
    assert!(successor.is_in_doubt());
    let stored = late.succeeded(Some(&by_successor), &with_refresh_token("b", "r-2"), after(31));
    let Storing::Write(stored) = stored else { panic!("{stored:?}") };
    assert_eq!((stored.lease, stored.doubt), (None, Doubt::None));

    // What the successor has to say of its own try changes nothing then.
    let failure = Failure { is_transient: false, is_unknown: false, retry_after: None };
    assert_eq!(successor.failed(Some(&stored), failure, after(32)), None);
    assert!(successor.is_overtaken(&stored));
}

#[test]
fn a_success_is_dropped_where_a_later_generation_is() {
    let (late, written) = lead(false, &record(1, token("a")), NOW);
    let (successor, by_successor) = lead(false, &written, after(30));
    let theirs = successor.succeeded(Some(&by_successor), &token("b"), after(31));
    let Storing::Write(theirs) = theirs else { panic!("{theirs:?}") };
    assert_eq!(late.succeeded(Some(&theirs), &token("c"), after(32)), Storing::Stale);
    assert_eq!(successor.succeeded(Some(&theirs), &token("b"), after(32)), Storing::Done);
}

#[test]
fn a_success_is_stored_where_the_store_was_emptied_and_an_older_record_put_back() {
    let (lead, _) = lead(true, &record(5, with_refresh_token("a", "r-1")), NOW);
    let new = with_refresh_token("b", "r-2");
    for current in [None, Some(record(3, with_refresh_token("old", "r-0")))] {
        let stored = lead.succeeded(current.as_ref(), &new, after(1));
        assert!(matches!(stored, Storing::Write(record) if record.generation > 5));
    }
}

#[test]
fn generations_do_not_start_again_after_the_store_was_emptied() {
    let (before, _) = lead(false, &record(NOW.0 + 9, token("a")), NOW);
    let Storing::Write(stored) = before.succeeded(None, &token("b"), NOW) else { panic!() };
    assert_eq!(stored.generation, NOW.0 + 10);
    let (anew, _) = lead(false, &Record::default(), NOW);
    let Storing::Write(stored) = anew.succeeded(None, &token("b"), after(1)) else { panic!() };
    assert_eq!(stored.generation, after(1).0);
}

#[test]
fn a_late_failure_changes_nothing() {
    let (late, written) = lead(true, &record(1, with_refresh_token("a", "r-1")), NOW);
    let want = wants(Reason::Due, "a");
    let step = ask(&want, OTHER, &rules(true), Some(&written), None, after(30));
    let Step::Write(in_grace) = step else { panic!("{step:?}") };
    let step = ask(&want, OTHER, &rules(true), Some(&in_grace), None, after(33));
    let Step::Write(by_successor) = step else { panic!("{step:?}") };
    for failure in
        [Failure::UNKNOWN, Failure { is_transient: false, is_unknown: false, retry_after: None }]
    {
        assert_eq!(late.failed(Some(&by_successor), failure, after(31)), None);
        assert_eq!(late.failed(None, failure, after(31)), None);
    }
}

#[test]
fn a_failure_pauses_the_fleet_and_takes_nothing_away() {
    let seen = record(1, with_refresh_token("a", "r-1"));
    for (retry_after, is_transient, pause) in
        [(None, true, 1), (None, false, 5), (Some(20), true, 20), (Some(3600), false, 60)]
    {
        let (lead, written) = lead(true, &seen, NOW);
        let retry_after = retry_after.map(Duration::from_secs);
        let failure = Failure { is_transient, is_unknown: false, retry_after };
        let failed = lead.failed(Some(&written), failure, NOW).unwrap();
        assert_eq!((&failed.token, failed.doubt), (&seen.token, Doubt::None));
        let step = ask_at(&wants(Reason::Due, "a"), true, Some(&failed), NOW);
        assert_eq!(step, Step::Paused(Duration::from_secs(pause)));
        let step = ask_at(&wants(Reason::Due, "a"), true, Some(&failed), after(pause));
        assert!(matches!(step, Step::Write(_)), "{step:?}");
        assert!(matches!(ask_at(&first(), true, Some(&failed), NOW), Step::Have(_)));
    }
}

#[test]
fn a_token_of_a_clock_that_was_set_back_does_not_live_longer() {
    let seen = record(1, token("a"));
    for (now, is_taken) in [(NOW, true), (StoreTime(NOW.0 - 1), false), (StoreTime(0), false)] {
        let step = ask_at(&first(), false, Some(&seen), now);
        assert_eq!(matches!(step, Step::Have(_)), is_taken, "{step:?}");
        assert_eq!(matches!(step, Step::Write(_)), !is_taken, "{step:?}");
    }
}

#[test]
fn a_pause_of_a_clock_that_was_set_back_does_not_last() {
    let (lead, written) = lead(false, &record(1, token("a")), NOW);
    let failed = lead.failed(Some(&written), Failure::UNKNOWN, NOW).unwrap();
    let (want, long_ago) = (wants(Reason::Due, "a"), StoreTime(0));
    assert!(matches!(ask_at(&want, false, Some(&failed), NOW), Step::Paused(_)));
    assert!(matches!(ask_at(&want, false, Some(&failed), long_ago), Step::Write(_)));
}

// ===== A refresh token in doubt =====

#[test]
fn a_refresh_token_in_doubt_gets_one_more_try_and_is_then_not_sent() {
    let seen = record(1, with_refresh_token("a", "r-1"));
    let (first, written) = lead(true, &seen, NOW);
    assert!(!first.is_in_doubt());
    let sent = |lead: &Lead| {
        let previous = lead.previous().unwrap().unwrap();
        previous.refresh_token().map(str::to_owned)
    };
    let (second, written) = lead(true, &written, after(30));
    assert!(second.is_in_doubt());
    assert_eq!((sent(&second).as_deref(), written.doubt), (Some("r-1"), Doubt::Once));
    let (third, written) = lead(true, &written, after(63));
    assert_eq!(written.doubt, Doubt::Lost);
    assert!(third.is_in_doubt());
    assert_eq!(sent(&third), None);
    // A new grant ends it.
    let stored = third.succeeded(Some(&written), &with_refresh_token("b", "r-9"), after(61));
    assert!(matches!(stored, Storing::Write(Record { doubt: Doubt::None, .. })));
}

#[test]
fn a_leader_that_may_have_spent_a_token_has_a_grace_to_say_so() {
    let (first, written) = lead(true, &record(1, with_refresh_token("a", "r-1")), NOW);
    let want = wants(Reason::Due, "a");
    let Step::Write(in_grace) = ask_at(&want, true, Some(&written), after(90)) else { panic!() };
    assert_eq!(in_grace.doubt, Doubt::None);
    // That lease is of no process, not even of the one that had it.
    assert_eq!(ask_at(&want, true, Some(&in_grace), after(90)), Step::Wait(GRACE));
    let failed = first.failed(Some(&in_grace), Failure::UNKNOWN, after(91)).unwrap();
    assert_eq!((failed.lease, failed.doubt), (None, Doubt::Once));
    let stored = first.succeeded(Some(&in_grace), &with_refresh_token("b", "r-2"), after(91));
    assert!(matches!(stored, Storing::Write(_)));
    // What repeats does not wait.
    let (_, written) = lead(false, &record(1, token("a")), NOW);
    let Step::Write(next) = ask_at(&want, false, Some(&written), after(90)) else { panic!() };
    assert!(matches!(ask_at(&want, false, Some(&next), after(90)), Step::Lead(_)));
}

#[test]
fn a_lease_that_nobody_knows_of_is_given_back_and_leaves_no_doubt() {
    let seen = record(1, with_refresh_token("a", "r-1"));
    let (_, written) = lead(true, &seen, NOW);
    assert_eq!(released(Some(&written), ME, false), Some(seen.clone()));
    // It may still be on its way: the same again has another version.
    assert_eq!(released(Some(&seen), ME, true), Some(seen.clone()));
    assert_eq!(released(None, ME, true), Some(Record::default()));
    // Somebody else goes on.
    assert_eq!(released(Some(&leased(&seen, OTHER)), ME, false), None);
    assert_eq!(released(None, ME, false), None);
}

#[test]
fn a_fetch_whose_end_nobody_knows_leaves_the_refresh_token_in_doubt() {
    let (lead, written) = lead(true, &record(1, with_refresh_token("a", "r-1")), NOW);
    let failed = lead.failed(Some(&written), Failure::UNKNOWN, NOW).unwrap();
    assert_eq!(failed.doubt, Doubt::Once);
}

#[test]
fn what_repeats_is_never_in_doubt() {
    let (_, written) = lead(false, &record(1, token("a")), NOW);
    let (successor, written) = lead(false, &written, after(30));
    assert!(!successor.is_in_doubt());
    assert_eq!(successor.failed(Some(&written), Failure::UNKNOWN, NOW).unwrap().doubt, Doubt::None);
}

// ===== Tokens =====

#[test]
fn a_lifetime_in_whole_seconds_counts_as_less() {
    let expires = |lifetime| {
        let token = access("a").with_lifetime(Duration::from_millis(lifetime));
        Stored::of(&token, StoreTime(0), false).expires_at.unwrap().0
    };
    assert_eq!([0, 1000, 2000, 60_000, 1500].map(expires), [0, 500, 1000, 59_000, 1500]);
}

#[test]
fn a_caller_gets_what_is_left_and_no_refresh_token() {
    let stored = Stored { due_at: Some(after(60)), ..with_refresh_token("a", "r") };
    let token = stored.for_caller(after(100)).unwrap();
    assert_eq!(token.lifetime(), Some(Duration::from_millis(3_499_999)));
    assert_eq!((token.refresh_in(), token.refresh_token()), (Some(Duration::ZERO), None));
}

#[test]
fn a_leader_takes_its_lease_back_in_a_store_that_was_emptied() {
    let (lead, leased) = lead(true, &record(5, token("a")), NOW);
    let left = Duration::from_secs(7);
    let reclaimed = |current| lead.reclaimed(&leased, current, left, NOW);
    let expected = Record { lease: Some(Lease::of(ME, left, NOW)), ..leased.clone() };
    let settling =
        |record: Record| Record { lease: Some(Lease::of(NOBODY, SETTLE, NOW)), ..record };
    let older = settling(record(4, token("b")));
    let same = settling(record(5, token("a")));
    let vacant = vacant();
    for emptied in [None, Some(&older), Some(&same), Some(&vacant)] {
        assert_eq!(reclaimed(emptied), Some(expected.clone()));
    }
    // It is there; another one leads by now; another one was faster.
    let of_another = self::leased(&record(5, token("a")), OTHER);
    for other in [&leased, &of_another, &record(6, token("c"))] {
        assert_eq!(reclaimed(Some(other)), None);
    }
    assert_eq!(lead.reclaimed(&leased, None, Duration::ZERO, NOW), None);
}
