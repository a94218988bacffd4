//! The rules, without a runtime and without a clock.

#![expect(clippy::float_cmp, reason = "whole and half seconds are exact")]

mod boundaries;
mod failure;
mod flights;
mod lifetime;
mod recovery;
mod refresh;
mod rejections;
mod versions;
mod warm;

use std::time::{Duration, SystemTime};

use super::*;
use crate::{cache::RefreshPolicyBuilder, challenge::Challenge};

const S: Duration = Duration::from_secs(1);

/// A state, and the time in the test.
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
        Self { state: State::new(policy.into()), now, start: now, random: 0.0 }
    }

    /// Holds this token, which lives for this many seconds (it says one more, because servers
    /// round).
    fn holding(token: &AccessToken, seconds: u64) -> Self {
        let mut world = Self::new();
        world.fetch(&token.clone().with_lifetime(S * u32::try_from(seconds + 1).unwrap()));
        world
    }

    fn pass(&mut self, seconds: f64) -> &mut Self {
        self.now += Duration::from_secs_f64(seconds);
        self
    }

    fn ask(&mut self) -> (Answer, Option<Start>) {
        let (answer, effects) = self.state.ask(None, self.now);
        (answer, effects.start)
    }

    fn reject(&mut self, token: &AccessToken, origin: &str) -> (Answer, Option<Start>) {
        let (answer, effects) =
            self.state.reject(&rejection(token, origin), RejectedBy::Waiter, self.now);
        (answer, effects.start)
    }

    fn finish(
        &mut self,
        start: &Start,
        outcome: Result<&AccessToken, TokenError>,
    ) -> Option<Result<AccessToken, TokenError>> {
        let outcome = outcome.map(|token| Arrival {
            token: token.clone(),
            called: self.now,
            called_wall: SystemTime::UNIX_EPOCH,
        });
        self.state.finished(start.id, outcome, self.now, self.random).0
    }

    /// Asks, and ends the flight that this starts.
    fn fetch(&mut self, token: &AccessToken) {
        let start = self.ask().1.expect("a flight");
        self.finish(&start, Ok(token)).unwrap().unwrap();
    }

    /// Rejects, and ends the renewal that this starts.
    fn renew(&mut self, rejected: &AccessToken, origin: &str, token: &AccessToken) {
        let start = self.reject(rejected, origin).1.expect("a renewal");
        self.finish(&start, Ok(token)).unwrap().unwrap();
    }

    fn accept(&mut self, token: &AccessToken, host: &str) {
        self.state.accepted(token, Some(&origin(host)), self.now);
    }

    fn granted(&self, host: &str) -> Grant {
        self.state.granted(Some(&origin(host)), self.now).expect("a usable token")
    }

    fn seconds(&self, at: Option<Instant>) -> f64 {
        (at.expect("a date") - self.start).as_secs_f64()
    }

    /// For how long asking returns an error and starts nothing.
    fn cooldown(&mut self) -> f64 {
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
        Answer::Token(grant) => Some(grant.token.secret()),
        _ => None,
    }
}

fn busy() -> TokenError {
    TokenError::transient("busy")
}

fn no_such_client() -> TokenError {
    TokenError::permanent("invalid_client")
}
