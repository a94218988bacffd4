//! The rules, without a runtime and without a clock.

#![expect(clippy::float_cmp, reason = "whole and half seconds are exact")]

use std::time::Duration;

use super::*;
use crate::RefreshPolicyBuilder;

const S: Duration = Duration::from_secs(1);

/// A state, and the time that the test says it is.
struct World {
    state: State,
    now: Instant,
    start: Instant,
    random: f64,
}

impl World {
    fn new() -> Self {
        Self::with(|policy| policy)
    }

    fn with(policy: impl FnOnce(RefreshPolicyBuilder) -> RefreshPolicyBuilder) -> Self {
        let now = Instant::now();
        let policy = policy(RefreshPolicy::builder()).build().unwrap();
        Self { state: State::new(policy), now, start: now, random: 0.0 }
    }

    /// Holds this token, that lives so many seconds (one more is said, because servers round).
    fn holding(token: &AccessToken, seconds: u64) -> Self {
        let mut world = Self::new();
        world.fetch(&token.clone().with_lifetime(S * u32::try_from(seconds + 1).unwrap()));
        world
    }

    fn pass(&mut self, seconds: f64) -> &mut Self {
        self.now += Duration::from_secs_f64(seconds);
        self
    }

    fn ask(&mut self) -> (Answer, Option<Takeoff>) {
        self.state.ask(self.now)
    }

    fn reject(&mut self, token: &AccessToken, origin: &str) -> (Answer, Option<Takeoff>) {
        self.state.reject(&rejection(token, origin), true, self.now)
    }

    fn land(
        &mut self,
        takeoff: &Takeoff,
        outcome: Result<&AccessToken, TokenError>,
    ) -> Option<Result<AccessToken, TokenError>> {
        let outcome = outcome.map(|token| Arrival {
            token: token.clone(),
            called: self.now,
            called_wall: SystemTime::UNIX_EPOCH,
        });
        self.state.landed(takeoff.id, outcome, self.now, self.random).map(|ended| ended.outcome)
    }

    /// Asks, and lands the flight that this starts.
    fn fetch(&mut self, token: &AccessToken) {
        let takeoff = self.ask().1.expect("a flight");
        self.land(&takeoff, Ok(token)).unwrap().unwrap();
    }

    /// Rejects, and lands the renewal that this starts.
    fn renew(&mut self, rejected: &AccessToken, origin: &str, token: &AccessToken) {
        let takeoff = self.reject(rejected, origin).1.expect("a renewal");
        self.land(&takeoff, Ok(token)).unwrap().unwrap();
    }

    fn seconds(&self, at: Option<Instant>) -> f64 {
        (at.expect("a date") - self.start).as_secs_f64()
    }

    /// For how long asking gets an error and starts nothing.
    fn rest(&mut self) -> f64 {
        let from = self.now;
        while matches!(self.ask(), (Answer::Error(_), None)) {
            self.pass(0.25);
        }
        (self.now - from).as_secs_f64()
    }
}

fn token(secret: &str) -> AccessToken {
    AccessToken::new(secret).unwrap()
}

fn origin(host: &str) -> Origin {
    format!("https://{host}").parse().unwrap()
}

fn rejection(token: &AccessToken, host: &str) -> Rejection {
    Rejection::new(token.clone()).with_origin(origin(host))
}

fn given(answer: &Answer) -> Option<&str> {
    match answer {
        Answer::Token(token) => Some(token.secret()),
        _ => None,
    }
}

fn busy() -> TokenError {
    TokenError::transient("busy")
}

fn no_such_client() -> TokenError {
    TokenError::permanent("invalid_client")
}

// ===== Flights =====

#[test]
fn the_first_asker_starts_a_flight_and_the_others_wait_for_it() {
    let mut world = World::new();
    let (answer, takeoff) = world.ask();
    assert!(matches!(answer, Answer::Wait(_)));
    assert_eq!(takeoff.unwrap().request.reason(), Reason::First);
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
    assert!(world.land(&lost, Ok(&token("late"))).is_none());
    assert!(world.state.current(world.now).is_none());
    assert!(matches!(world.ask(), (Answer::Wait(_), None)), "the new flight is still under way");
    world.land(&next, Ok(&token("b"))).unwrap().unwrap();
    assert_eq!(given(&world.ask().0), Some("b"));
}

#[test]
fn a_lost_flight_is_no_answer_of_the_source_so_the_source_does_not_rest() {
    let mut world = World::new();
    let takeoff = world.ask().1.unwrap();
    let mut lose = || world.state.lost(takeoff.id, &CacheError::SourcePanicked, world.now);
    assert!(lose().is_some());
    assert!(lose().is_none(), "it is lost once");
    assert!(world.ask().1.is_some());
}

#[test]
fn the_next_fetch_is_shown_what_is_known() {
    let mut world = World::holding(&token("a").with_refresh_token("r"), 100);
    let challenge = crate::Challenge::new("Bearer").with_param("error", "invalid_token");
    let rejection = rejection(&token("a"), "api").with_challenge(challenge.clone());
    let request = world.state.reject(&rejection, true, world.now).1.unwrap().request;
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

// ===== Lifetime =====

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
    let takeoff = world.ask().1.unwrap();
    let called = world.now;
    world.pass(20.0);
    let arrival = Arrival {
        token: token("a").with_lifetime(101 * S),
        called,
        called_wall: SystemTime::UNIX_EPOCH,
    };
    world.state.landed(takeoff.id, Ok(arrival), world.now, 0.0).unwrap();
    assert_eq!(world.seconds(world.state.status(world.now).expiry), 90.0);
}

#[test]
fn a_due_token_is_used_and_the_first_asker_starts_a_refresh() {
    let mut world = World::holding(&token("a"), 100);
    world.pass(79.9);
    assert!(world.ask().1.is_none());
    world.pass(0.1);
    let (answer, takeoff) = world.ask();
    assert_eq!(given(&answer), Some("a"));
    assert_eq!(takeoff.unwrap().request.reason(), Reason::Due);
    let (answer, takeoff) = world.ask();
    assert_eq!((given(&answer), takeoff.is_none()), (Some("a"), true));
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
    let takeoff = world.pass(80.0).ask().1.unwrap();
    world.land(&takeoff, Ok(&token("b").with_lifetime(Duration::ZERO))).unwrap().unwrap();
    assert_eq!(given(&world.ask().0), Some("a"));
}

#[test]
fn what_is_published_may_be_used_exactly_until_the_state_has_something_to_say() {
    let mut world = World::holding(&token("a"), 100);
    assert_eq!(world.seconds(world.state.ready(world.now).unwrap().until), 80.0);
    world.pass(80.0).ask().1.unwrap();
    let until = world.state.ready(world.now).unwrap().until;
    assert_eq!(world.seconds(until), 90.0, "the flight is under way: until the token expires");
    world.pass(10.0);
    assert!(world.state.ready(world.now).is_none());

    let mut world = World::new();
    world.fetch(&token("eternal"));
    assert_eq!(world.state.ready(world.now).unwrap().until, None);
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
    let takeoff = world.ask().1.unwrap();
    let arrival = fetched(&world, "a");
    world.state.landed(takeoff.id, Ok(arrival), world.now, 0.0);

    let takeoff = world.pass(80.0).ask().1.unwrap();
    let arrival = fetched(&world, "b");
    world.state.landed(takeoff.id, Ok(arrival), world.now, 0.0);
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
    world.land(&first, Ok(&short)).unwrap().unwrap();
    assert!(world.pass(0.2).ask().1.is_none());
    let next = world.state.ready(world.now).unwrap().until;
    assert!((world.seconds(next) - 1.2).abs() < 1e-6);
    assert!(world.pass(0.8).ask().1.is_some());
}

#[test]
fn only_a_policy_that_keeps_warm_tends_without_traffic() {
    let mut idle = World::holding(&token("a"), 100);
    assert_eq!(idle.state.tend_at(idle.now), None);

    idle.state.policy.keep_warm = true;
    let mut warm = idle;
    let at = warm.state.tend_at(warm.now);
    assert_eq!(warm.seconds(at), 80.0);
    assert!(warm.state.tend(warm.now).is_none(), "not yet");
    warm.pass(80.0);
    let takeoff = warm.state.tend(warm.now).unwrap();
    assert_eq!(warm.state.tend_at(warm.now), None, "the landing will tell");
    warm.land(&takeoff, Err(busy()));
    let at = warm.state.tend_at(warm.now);
    assert_eq!(warm.seconds(at), 81.0, "the source rests");
}

// ===== Failure =====

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
        let until = world.state.status(world.now).resting_until.unwrap();
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
    let left = |world: &World| world.seconds(world.state.status(world.now).resting_until);
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
        (world.state.status(world.now).resting_until.unwrap() - world.now).as_secs()
    };
    assert_eq!([fail(busy()), fail(busy()), fail(busy())], [1, 2, 4]);
    assert_eq!([fail(no_such_client()), fail(busy())], [30, 1]);
    let takeoff = world.state.take_off(Reason::First, None, world.now);
    world.land(&takeoff, Ok(&token("a"))).unwrap().unwrap();
    let status = world.state.status(world.now);
    assert!(status.resting_until.is_none() && status.last_error.is_none());
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

// ===== Rejections =====

#[test]
fn a_late_rejection_of_an_old_token_fetches_nothing() {
    let mut world = World::holding(&token("a"), 100);
    world.renew(&token("a"), "api", &token("b"));
    let (answer, takeoff) = world.reject(&token("a"), "api");
    assert_eq!((given(&answer), takeoff.is_none()), (Some("b"), true));
    assert!(!world.state.status(world.now).suspect);
}

#[test]
fn while_a_renewal_flies_askers_wait_for_it() {
    let mut world = World::holding(&token("a"), 100);
    world.reject(&token("a"), "api").1.unwrap();
    assert!(world.state.ready(world.now).is_none());
    assert!(matches!(world.ask(), (Answer::Wait(_), None)));
    assert_eq!(world.state.current(world.now).unwrap().secret(), "a", "it is still there");
}

#[test]
fn a_rejection_joins_the_flight_under_way_which_then_is_a_renewal() {
    let mut world = World::holding(&token("a"), 100);
    let due = world.pass(80.0).ask().1.unwrap();
    assert!(matches!(world.reject(&token("a"), "api"), (Answer::Wait(_), None)));
    assert!(matches!(world.ask(), (Answer::Wait(_), None)), "now askers wait for it too");
    let same = world.land(&due, Ok(&token("a"))).unwrap().unwrap();
    assert_eq!(same.secret(), "a");
    let again = world.reject(&token("a"), "api").1.expect("another one is asked for");
    assert_eq!(again.request.rejected().unwrap().secret(), "a");
}

#[test]
fn a_failed_renewal_leaves_the_suspect_token_in_use() {
    let mut world = World::holding(&token("a"), 100);
    let takeoff = world.reject(&token("a"), "api").1.unwrap();
    world.land(&takeoff, Err(busy()));
    assert_eq!(given(&world.ask().0), Some("a"));
    assert!(world.state.status(world.now).suspect);
    let (answer, takeoff) = world.reject(&token("a"), "api");
    assert!(matches!(answer, Answer::Error(_)) && takeoff.is_none(), "the source rests");
}

#[test]
fn to_reject_an_unproven_token_holds_up_the_next_renewal_of_that_origin() {
    let mut world = World::holding(&token("t0"), 100_000);
    world.renew(&token("t0"), "api", &token("t1"));
    let mut holds = Vec::new();
    for n in 1..=8 {
        let rejected = token(&format!("t{n}"));
        let from = world.now;
        loop {
            match world.reject(&rejected, "api") {
                (Answer::Error(error), None) => {
                    assert!(matches!(error.downcast_ref(), Some(CacheError::Held(_))));
                    world.pass(1.0);
                }
                (_, Some(takeoff)) => {
                    let fresh = token(&format!("t{}", n + 1));
                    world.land(&takeoff, Ok(&fresh)).unwrap().unwrap();
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        holds.push((world.now - from).as_secs());
    }
    assert_eq!(holds, [5, 10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn a_thousand_rejections_of_one_unproven_token_are_one_strike() {
    let mut world = World::holding(&token("a"), 1000);
    world.renew(&token("a"), "api", &token("b"));
    for _ in 0..1000 {
        assert!(world.reject(&token("b"), "api").1.is_none());
    }
    assert!(world.pass(5.0).reject(&token("b"), "api").1.is_some());
}

#[test]
fn other_origins_are_not_held_up() {
    let mut world = World::holding(&token("a"), 1000);
    world.renew(&token("a"), "bad", &token("b"));
    assert!(world.reject(&token("b"), "bad").1.is_none());
    world.state.accepted(&token("b"), Some(&origin("good")));
    assert!(world.reject(&token("b"), "good").1.is_some());
}

#[test]
fn acceptance_proves_the_token_and_clears_the_strikes() {
    let mut world = World::holding(&token("a"), 1000);
    world.renew(&token("a"), "api", &token("b"));
    assert!(world.reject(&token("b"), "api").1.is_none(), "a strike");
    assert!(world.state.ready(world.now).unwrap().watched);
    world.state.accepted(&token("b"), Some(&origin("api")));
    let ready = world.state.ready(world.now).unwrap();
    assert!(!ready.is_news(&token("b"), Some(&origin("api"))), "once is enough");
    assert!(ready.is_news(&token("b"), Some(&origin("other"))));
    world.renew(&token("b"), "api", &token("c"));
    assert!(world.reject(&token("c"), "api").1.is_none());
    assert!(world.pass(5.0).reject(&token("c"), "api").1.is_some(), "5 s, not 10: a first strike");
}

#[test]
fn a_proven_token_that_is_rejected_is_renewed_at_once() {
    let mut world = World::holding(&token("a"), 1000);
    for n in 0..10 {
        let (old, new) = (format!("t{n}"), format!("t{}", n + 1));
        let old = if n == 0 { token("a") } else { token(&old) };
        world.renew(&old, "api", &token(&new));
        world.state.accepted(&token(&new), Some(&origin("api")));
    }
}

#[test]
fn the_word_of_a_late_response_with_an_old_token_counts_for_nothing() {
    let mut world = World::holding(&token("a"), 1000);
    world.renew(&token("a"), "api", &token("b"));
    world.state.accepted(&token("a"), Some(&origin("api")));
    assert!(world.reject(&token("b"), "api").1.is_none(), "b is still unproven");
}

#[test]
fn a_renewal_that_brings_the_rejected_token_is_a_strike() {
    let mut world = World::holding(&token("a"), 1000);
    let takeoff = world.reject(&token("a"), "api").1.unwrap();
    let error = world.land(&takeoff, Ok(&token("a"))).unwrap().unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&CacheError::SameToken));
    assert_eq!(given(&world.ask().0), Some("a"), "the suspect token is what there is");
    assert!(world.reject(&token("a"), "api").1.is_none());
    assert!(world.pass(5.0).reject(&token("a"), "api").1.is_some());
}

#[test]
fn short_lived_tokens_are_no_way_around_the_strikes() {
    let mut world = World::holding(&token("a"), 1000);
    world.renew(&token("a"), "api", &token("b").with_lifetime(3 * S));
    assert!(world.reject(&token("b"), "api").1.is_none(), "a strike");
    world.pass(4.0);
    world.fetch(&token("c"));
    assert!(world.reject(&token("c"), "api").1.is_none(), "a second one, for c was never accepted");
    assert!(world.pass(9.0).reject(&token("c"), "api").1.is_none());
    assert!(world.pass(1.0).reject(&token("c"), "api").1.is_some());
}

#[test]
fn renewals_that_nobody_waits_for_start_at_most_once_a_second() {
    let mut world = World::holding(&token("a"), 1000);
    let unawaited = |world: &mut World, secret: &str| {
        let now = world.now;
        world.state.reject(&rejection(&token(secret), "api"), false, now)
    };
    let takeoff = unawaited(&mut world, "a").1.unwrap();
    world.land(&takeoff, Ok(&token("b"))).unwrap().unwrap();
    world.state.accepted(&token("b"), Some(&origin("api")));
    let (answer, takeoff) = unawaited(&mut world, "b");
    assert!(matches!(answer, Answer::Error(_)) && takeoff.is_none());
    world.pass(1.0);
    assert!(unawaited(&mut world, "b").1.is_some());
}

#[test]
fn errors_that_were_replaced_are_left_for_the_shell_to_drop() {
    let mut world = World::new();
    for _ in 0..2 {
        let takeoff = world.state.take_off(Reason::First, None, world.now);
        world.land(&takeoff, Err(busy()));
    }
    assert_eq!(world.state.news.litter.len(), 1);
}
