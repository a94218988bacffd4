//! Any sequence of events, against a plain model of the promises.
//!
//! `PROPTEST_CASES=1000000 cargo test --release --all-features --lib cache::state::model` runs more of
//! them; a failing sequence is printed as the smallest one that fails.

mod promises;

use std::time::{Duration, SystemTime};

use proptest::{collection::vec, prelude::*, sample::Index, test_runner::RngSeed};

use self::promises::{Expected, Promises, Rejected};
use super::{
    super::answer::{Answer, Arrival, Grant, RejectedBy},
    *,
};
use crate::{cache::Rejection, challenge::Challenge};

/// Where requests go: `None` is a caller who names no origin.
type Place = Option<usize>;

/// One of the tokens that there were; `None` is the newest.
type Which = Option<Index>;

#[derive(Clone, Debug)]
enum Step {
    Ask { place: Place },
    Refresh,
    Reject { token: Which, place: Place, by: u8, claims: Option<u8> },
    Accept { token: Which, place: Place },
    Finish { outcome: Outcome, called: u64, random: f64 },
    FinishLate { flight: Index },
    Lose,
    Want { always: bool },
    KeepWarm,
    SleepUntilWarm,
    Recover { has: bool },
    Pass { millis: u64 },
}

#[derive(Clone, Debug)]
enum Outcome {
    /// A new token that lives for so many milliseconds.
    Token {
        lifetime: Option<u64>,
    },
    /// One that was there before.
    Again {
        token: Which,
        lifetime: Option<u64>,
    },
    Error {
        is_transient: bool,
        retry_after: Option<u64>,
    },
}

fn place() -> impl Strategy<Value = Place> {
    (0..4_usize).prop_map(|place| place.checked_sub(1))
}

fn lifetime() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(0)),
        4 => (1..200_u64).prop_map(|seconds| Some(seconds * 1000)),
        2 => (0..8_000_u64).prop_map(Some),
        1 => (0..100_000_000_u64).prop_map(Some),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let again = (proptest::option::of(any::<Index>()), lifetime());
    let error = (any::<bool>(), proptest::option::weighted(0.3, 0..400_u64));
    prop_oneof![
        6 => lifetime().prop_map(|lifetime| Outcome::Token { lifetime }),
        2 => again.prop_map(|(token, lifetime)| Outcome::Again { token, lifetime }),
        2 => error.prop_map(|(is_transient, retry_after)| Outcome::Error { is_transient, retry_after }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let token = proptest::option::of(any::<Index>());
    let claims = proptest::option::weighted(0.15, 0..2_u8);
    let reject = (token.clone(), place(), 0..3_u8, claims);
    let finish = (outcome(), 0..5_000_u64, 0.0..1.0_f64);
    let time = prop_oneof![0..1_500_u64, 0..40_000_u64, 0..400_000_u64];
    prop_oneof![
        8 => place().prop_map(|place| Step::Ask { place }),
        1 => Just(Step::Refresh),
        6 => reject.prop_map(|(token, place, by, claims)| Step::Reject { token, place, by, claims }),
        4 => (token, place()).prop_map(|(token, place)| Step::Accept { token, place }),
        10 => finish.prop_map(|(outcome, called, random)| Step::Finish { outcome, called, random }),
        1 => any::<Index>().prop_map(|flight| Step::FinishLate { flight }),
        1 => Just(Step::Lose),
        1 => any::<bool>().prop_map(|always| Step::Want { always }),
        1 => Just(Step::KeepWarm),
        2 => Just(Step::SleepUntilWarm),
        1 => any::<bool>().prop_map(|has| Step::Recover { has }),
        5 => time.prop_map(|millis| Step::Pass { millis }),
    ]
}

fn origin(place: Place) -> Option<Origin> {
    place.map(|nth| format!("https://{nth}.example").parse().unwrap())
}

/// The state, the model beside it, and what callers still hold.
struct World {
    state: State,
    promises: Promises,
    now: Instant,
    origins: [Option<Origin>; 4],
    tokens: Vec<AccessToken>,
    /// Flights that were started, with the time of that.
    flights: Vec<(FlightId, Instant)>,
    /// What the last caller at each place may use without asking.
    held: [Option<Grant>; 4],
}

fn at(place: Place) -> usize {
    place.map_or(3, |place| place)
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            state: State::new(RefreshPolicy::default().into()),
            promises: Promises::new(now),
            now,
            origins: [origin(Some(0)), origin(Some(1)), origin(Some(2)), None],
            tokens: Vec::new(),
            flights: Vec::new(),
            held: [const { None }; 4],
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Ask { place } => self.ask(*place),
            Step::Refresh => self.refresh(),
            Step::Reject { token, place, by, claims } => {
                if let Some(nth) = self.pick(*token) {
                    let by = [RejectedBy::Waiter, RejectedBy::Layer, RejectedBy::Caller]
                        [usize::from(*by)];
                    self.reject(Rejected { nth, place: *place, by, claims: *claims });
                }
            }
            Step::Accept { token, place } => {
                if let Some(nth) = self.pick(*token) {
                    let origin = self.origins[at(*place)].as_ref();
                    self.state.accepted(&self.tokens[nth], origin, self.now);
                    self.promises.accepted(nth, *place);
                }
            }
            Step::Finish { outcome, called, random } => self.finish(outcome, *called, *random),
            Step::FinishLate { flight } => self.finish_late(*flight),
            Step::Lose => {
                if let Some(id) = self.promises.flight() {
                    assert!(self.state.lost(id, &CacheError::FlightLost, self.now).0);
                    self.promises.lost();
                }
            }
            Step::Want { always } => {
                let wanted = if *always { Wanted::Always } else { Wanted::First };
                self.state.want(wanted, self.now);
                self.promises.want(*always, self.now);
            }
            Step::KeepWarm => self.keep_warm(),
            Step::SleepUntilWarm => self.sleep_until_warm(),
            Step::Recover { has } => self.check_recovery(*has),
            Step::Pass { millis } => self.now += Duration::from_millis(*millis),
        }
        self.check();
    }

    // ===== Callers =====

    fn ask(&mut self, place: Place) {
        self.promises.give_up_lost(self.now);
        let expected = self.promises.ask(place, self.now);
        let (answer, effects) = self.state.ask(self.origins[at(place)].as_ref(), self.now);
        let start = self.answered(&answer, effects, expected);
        if let (Answer::Token(_), Some(start)) = (answer, &start) {
            assert_eq!(start.request.reason(), Reason::Due);
            self.promises.spaces_the_next(self.now);
        }
        self.started(start, None);
    }

    fn refresh(&mut self) {
        self.promises.give_up_lost(self.now);
        let expected = self.promises.refresh(self.now);
        let (answer, effects) = self.state.refresh(self.now);
        let start = self.answered(&answer, effects, expected);
        if start.is_some() {
            self.promises.spaces_the_next(self.now);
        }
        self.started(start, None);
    }

    fn reject(&mut self, rejected: Rejected) {
        let mut rejection = Rejection::new(self.tokens[rejected.nth].clone());
        rejection.origin.clone_from(&self.origins[at(rejected.place)]);
        if let Some(claims) = rejected.claims {
            let claims = Challenge::new("Bearer").with_param("claims", claims.to_string());
            rejection = rejection.with_challenge(claims);
        }
        self.promises.give_up_lost(self.now);
        let expected = self.promises.reject(rejected, self.now);
        let (answer, effects) = self.state.reject(&rejection, rejected.by, self.now);
        let start = self.answered(&answer, effects, expected);
        if let Some(start) = &start {
            let replaces = start.request.rejected().expect("a renewal");
            assert!(replaces.is_same(&rejection.token));
            if rejected.by != RejectedBy::Waiter {
                self.promises.spaces_the_next(self.now);
            }
        }
        self.started(start, Some(rejected));
    }

    fn answered(&mut self, answer: &Answer, effects: Effects, expected: Expected) -> Option<Start> {
        let is_kept = match (answer, expected) {
            (Answer::Token(grant), Expected::Token { nth, .. }) => {
                grant.token.is_same(&self.tokens[nth])
            }
            (
                Answer::Wait(lost_at),
                Expected::Flight | Expected::Wait | Expected::FlightOrError,
            ) => *lost_at > self.now && *lost_at <= self.now + Duration::from_secs(31),
            (Answer::WaitAndAskAgain(_), Expected::WaitAndAskAgain)
            | (Answer::Error(_), Expected::Error | Expected::FlightOrError) => true,
            _ => false,
        };
        assert!(is_kept, "{expected:?} was promised, and not {answer:?}");
        let starts = match expected {
            Expected::Token { starts, .. } => starts,
            Expected::Flight => true,
            Expected::FlightOrError => matches!(answer, Answer::Wait(_)),
            Expected::Wait | Expected::WaitAndAskAgain | Expected::Error => false,
        };
        assert_eq!(effects.start.is_some(), starts, "whether a flight starts");
        effects.start
    }

    fn started(&mut self, start: Option<Start>, rejected: Option<Rejected>) {
        let Some(start) = start else { return };
        assert!(self.flights.iter().all(|(id, _)| *id < start.id), "a name is used once");
        self.flights.push((start.id, self.now));
        self.promises.started(start.id, rejected, self.now);
    }

    // ===== Flights =====

    fn finish(&mut self, outcome: &Outcome, called: u64, random: f64) {
        let Some(id) = self.promises.flight() else { return };
        let (_, started) = *self.flights.last().expect("it was started");
        let called = self.now.checked_sub(Duration::from_millis(called)).unwrap_or(started);
        let called = called.max(started);
        let (nth, lifetime) = match outcome {
            Outcome::Token { lifetime } => {
                self.tokens.push(token(self.tokens.len()));
                (self.tokens.len() - 1, *lifetime)
            }
            Outcome::Again { token, lifetime } => match self.pick(*token) {
                Some(nth) => (nth, *lifetime),
                None => return,
            },
            Outcome::Error { is_transient, retry_after } => {
                let error = if *is_transient {
                    TokenError::transient("busy")
                } else {
                    TokenError::permanent("no")
                };
                let asked = retry_after.map(Duration::from_secs);
                let error = asked.into_iter().fold(error, TokenError::with_retry_after);
                let (outcome, _) = self.state.finished(id, Err(error), self.now, random);
                outcome.expect("it was under way").expect_err("it has failed");
                self.promises.failed(*is_transient, asked, random, self.now);
                return;
            }
        };
        let lifetime = lifetime.map(Duration::from_millis);
        let token = lifetime.into_iter().fold(self.tokens[nth].clone(), AccessToken::with_lifetime);
        let arrival = Ok(arrival(token, called));
        let (outcome, _) = self.state.finished(id, arrival, self.now, random);
        let outcome = outcome.expect("it was under way");
        let is_other = self.promises.arrived(nth, lifetime, called, random, self.now);
        assert_eq!(
            outcome.is_ok(),
            is_other,
            "those who wait get a token unless it is the rejected one"
        );
        assert!(outcome.is_err() || outcome.is_ok_and(|it| it.is_same(&self.tokens[nth])));
    }

    fn finish_late(&mut self, flight: Index) {
        if self.flights.is_empty() {
            return;
        }
        let (id, _) = *flight.get(&self.flights);
        if self.promises.flight() != Some(id) {
            let arrival = arrival(token(1_000_000), self.now);
            let (outcome, _) = self.state.finished(id, Ok(arrival), self.now, 0.0);
            assert!(outcome.is_none(), "a flight that was given up has brought something");
        }
    }

    // ===== The keeper =====

    fn keep_warm(&mut self) {
        self.promises.give_up_lost(self.now);
        let expected = self.promises.keep_warm(self.now);
        let start = self.state.keep_warm(self.now).start;
        assert_eq!(start.is_some(), expected, "whether a flight starts");
        if start.is_some() {
            self.promises.spaces_the_next(self.now);
        }
        self.started(start, None);
    }

    /// It sleeps until there is something to do, and never for no time.
    fn sleep_until_warm(&mut self) {
        for _ in 0..3 {
            let Some(at) = self.state.warm_at(self.now) else { return };
            self.now = self.now.max(at);
            self.check_recovery(false);
            self.keep_warm();
            let again = self.state.warm_at(self.now);
            assert!(again.is_none_or(|again| again > self.now), "it does not sleep");
        }
    }

    fn check_recovery(&mut self, has_recovered: bool) {
        let asked = self.state.may_check_recovery(self.now);
        assert_eq!(asked.is_some(), self.promises.may_check_recovery(self.now));
        if let (Some(cooldown), true) = (asked, has_recovered) {
            self.state.recovered(cooldown);
            self.promises.recovered();
        }
    }

    // ===== At any time =====

    fn check(&mut self) {
        let current = self.promises.token(self.now);
        let is = self.state.token(self.now);
        assert_eq!(
            is.is_some(),
            current.is_some(),
            "no valid token is lost, none that expired is used"
        );
        assert!(is.is_none_or(|is| is.is_same(&self.tokens[current.unwrap()])));
        for place in [Some(0), Some(1), Some(2), None] {
            self.check_held(place);
            let origin = self.origins[at(place)].as_ref();
            if let Some(grant) = self.state.granted(origin, self.now) {
                self.held[at(place)] = Some(grant);
            }
        }
    }

    /// A caller that may use a token without asking would get that same token by asking.
    fn check_held(&self, place: Place) {
        let Some(grant) = &self.held[at(place)] else { return };
        let is_over = grant.until.is_some_and(|until| until <= self.now);
        if is_over || grant.version != self.state.version() {
            return;
        }
        match self.promises.ask(place, self.now) {
            Expected::Token { nth, starts: false } => {
                assert!(self.tokens[nth].is_same(&grant.token), "an old token is used");
                assert_eq!(grant.suspect, self.promises.is_suspect());
            }
            other => panic!("a token is used at {place:?} where one who asks gets {other:?}"),
        }
    }

    /// Every failure is eventually retried, and a cache that is kept warm has a token.
    fn end(&mut self) {
        self.now += Duration::from_secs(400);
        for _ in 0..100 {
            if self.promises.flight_at(self.now).is_some() {
                break;
            }
            match self.state.warm_at(self.now) {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
            self.keep_warm();
        }
        if self.promises.is_kept_warm() && self.promises.flight_at(self.now).is_none() {
            assert!(self.state.token(self.now).is_some(), "it is cold");
        }
        self.ask(None);
        self.finish(&Outcome::Token { lifetime: Some(60_000) }, 0, 0.0);
        self.ask(None);
        assert!(self.state.token(self.now).is_some());
        self.check();
    }

    fn pick(&self, token: Which) -> Option<usize> {
        let newest = self.tokens.len().checked_sub(1)?;
        Some(token.map_or(newest, |token| token.index(self.tokens.len())))
    }
}

fn arrival(token: AccessToken, called: Instant) -> Arrival {
    Arrival { token, called, called_wall: SystemTime::UNIX_EPOCH }
}

fn token(nth: usize) -> AccessToken {
    AccessToken::new(format!("t{nth}")).unwrap()
}

proptest! {
    // The same sequences each time; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` make others.
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_state_does_what_is_promised(steps in vec(step(), 1..40)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.end();
    }
}
