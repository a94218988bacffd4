//! Detects that a secret has changed since a service refused, so that an early retry makes sense.
//!
//! A rotated secret is worth an immediate retry. A secret that is *generated* at each reading, such
//! as a signed assertion, always differs, which means nothing. No rule distinguishes the two for
//! certain, so three rules apply together:
//!
//! 1. A stored secret (a variable, a file) has changed if its text has. The value of a function has
//!    changed if the difference is more than the dates of an assertion, and if the value is
//!    stable: within a fetch, for a little more than a second.
//! 2. Between fetches, the value of a function has changed only if it is stable from one reading to
//!    the next, a second apart: before the change or after it.
//! 3. In a series of refusals, only the first two retries are early, whatever has changed. Each
//!    further retry waits twice as long as the one before. A success ends the series.
//!
//! All keys share the secrets, and so this state. A refusal that is about a key, or about the
//! subject in it, says nothing about the secrets and is never recorded here.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::request::Readings;
use crate::{secret::Secret, source::TokenRequest};

/// The number of early retries in a series of refusals.
const FREE_TRIES: u32 = 2;
/// The wait before the next one, and the longest wait. Meanwhile the cache retries by itself, at
/// least every five minutes, so that a long wait does not delay recovery.
const TRY_AFTER: Duration = Duration::from_secs(30);
const TRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// The claims of a JWT that differ each time (RFC 7519 §4.1).
const DATED_CLAIMS: [&str; 4] = ["iat", "exp", "nbf", "jti"];

/// The kind of change between two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    /// A value that a function generates at each reading: the change means nothing.
    Generated,
    /// The value of a function.
    Function,
    /// A stored secret, or the token to redeem, which is not generated at each reading.
    Stored,
}

/// The state of a series of refusals.
#[derive(Default)]
pub(super) struct Refusals {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last fetch, if its failure was permanent.
    last: Option<Refusal>,
    /// The early retries since the last success, and the time of the last one.
    tries: u32,
    last_try: Option<Instant>,
    /// Whether a retry with a function's new value was refused as well.
    is_generated: bool,
}

/// A fetch with a permanent failure.
#[derive(Clone)]
pub(super) struct Refusal {
    pub(super) request: TokenRequest,
    /// The secrets sent; `None` if one could not be read.
    pub(super) sent: Option<Readings>,
    /// Whether the values of functions were seen to be stable.
    is_stable: bool,
    /// The last reading, if it differs from the secrets sent.
    seen: Option<Readings>,
    /// Whether the cooldown after it has ended early.
    is_over: bool,
}

// ===== impl Change =====

impl Change {
    /// Compares readings; the secrets are those of the template.
    pub(super) fn between<'a>(
        secrets: impl Iterator<Item = &'a Secret>,
        before: &Readings,
        now: &Readings,
    ) -> Self {
        if before.redeemed != now.redeemed {
            return Self::Stored;
        }
        let mut change = Self::Nothing;
        for ((secret, before), now) in secrets.zip(&before.secrets).zip(&now.secrets) {
            match secret.is_made() {
                _ if before == now => {}
                false => return Self::Stored,
                true if is_same_assertion(before, now) => {}
                true => change = Self::Function,
            }
        }
        change
    }
}

/// Whether both are assertions that differ only in their dates.
fn is_same_assertion(one: &str, other: &str) -> bool {
    let parts = assertion(one);
    parts.is_some() && parts == assertion(other)
}

/// The header of a JWT, and its claims without the dates. Nothing is verified.
fn assertion(text: &str) -> Option<[Map<String, Value>; 2]> {
    let mut parts = text.split('.');
    let mut part = || {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
        serde_json::from_slice::<Map<String, Value>>(&bytes).ok()
    };
    let (header, mut claims) = (part()?, part()?);
    claims.retain(|name, _| !DATED_CLAIMS.contains(&name.as_str()));
    (parts.count() == 1).then_some([header, claims])
}

// ===== impl Refusals =====

impl Refusals {
    /// Records that a fetch begins.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        if state.last.as_mut().is_some_and(|last| std::mem::take(&mut last.is_over)) {
            state.count(Instant::now());
        }
    }

    /// Records a success.
    pub(super) fn succeeded(&self) {
        *self.state() = State::default();
    }

    /// Records a failure; a permanent one, if there is a refusal.
    pub(super) fn failed(&self, refusal: Option<Refusal>) {
        self.state().last = refusal;
    }

    pub(super) fn last(&self) -> Option<Refusal> {
        self.state().last.clone()
    }

    /// Whether to retry within a fetch, which then counts as an early retry.
    pub(super) fn may_try(&self, change: Change) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        let is_new = match change {
            Change::Nothing | Change::Generated => false,
            Change::Function => !state.is_generated,
            Change::Stored => true,
        };
        let may_try = is_new && state.may_try(now);
        if may_try {
            state.count(now);
        }
        may_try
    }

    /// Records that a retry within a fetch, with a function's new value, was refused.
    pub(super) fn was_generated(&self) {
        self.state().is_generated = true;
    }

    /// Whether the cooldown after the last refusal ends early, given this reading.
    pub(super) fn may_end(&self, change: Change, read: Readings) -> bool {
        let mut state = self.state();
        let may_try = state.may_try(Instant::now());
        let Some(last) = &mut state.last else { return false };
        let is_new = match change {
            Change::Stored => true,
            Change::Function => last.is_stable || last.seen.as_ref() == Some(&read),
            Change::Generated => false,
            Change::Nothing => {
                last.is_stable = true;
                false
            }
        };
        last.seen = Some(read);
        last.is_over = is_new && may_try;
        last.is_over
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ===== impl State =====

impl State {
    fn may_try(&self, now: Instant) -> bool {
        let Some(doublings) = self.tries.checked_sub(FREE_TRIES) else { return true };
        let wait = TRY_AFTER.saturating_mul(1 << doublings.min(8)).min(TRY_AFTER_MAX);
        self.last_try.is_none_or(|last| now.saturating_duration_since(last) >= wait)
    }

    fn count(&mut self, now: Instant) {
        self.tries = self.tries.saturating_add(1);
        self.last_try = Some(now);
    }
}

// ===== impl Refusal =====

impl Refusal {
    pub(super) fn new(request: TokenRequest, sent: Option<Readings>) -> Self {
        Self { request, sent, is_stable: false, seen: None, is_over: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oauth2::{assertion::Proofs, overlay::Overlay},
        source::Reason,
    };

    fn read(text: &str) -> Readings {
        let secrets = vec![zeroize::Zeroizing::new(text.to_owned())];
        let overlay = Overlay::of(&TokenRequest::new(Reason::First));
        Readings { secrets, redeemed: None, overlay, proofs: Proofs::default() }
    }

    fn refused() -> Refusals {
        let refusals = Refusals::default();
        refusals.failed(Some(Refusal::new(TokenRequest::new(Reason::First), Some(read("0")))));
        refusals
    }

    #[test]
    fn a_change_of_a_functions_value_counts_once_the_value_is_stable() {
        let refusals = refused();
        assert!(!refusals.may_end(Change::Function, read("1")));
        assert!(!refusals.may_end(Change::Function, read("2")));
        assert!(refusals.may_end(Change::Function, read("2")), "after the change");

        let refusals = refused();
        assert!(!refusals.may_end(Change::Nothing, read("0")));
        assert!(refusals.may_end(Change::Function, read("1")), "before the change");
    }

    #[test]
    fn a_value_that_is_generated_for_each_reading_is_never_stable() {
        let refusals = refused();
        assert!(!refusals.may_end(Change::Generated, read("1")));
        assert!(!refusals.may_end(Change::Function, read("2")));
        assert!(!refusals.may_try(Change::Generated) && !refusals.may_try(Change::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn early_retries_are_few_and_get_rarer_until_one_succeeds() {
        let refusals = refused();
        let mut waits = Vec::new();
        let mut last = Instant::now();
        while waits.len() < 11 {
            if refusals.may_try(Change::Stored) {
                waits.push(last.elapsed().as_secs());
                last = Instant::now();
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // The second comes with the next look, a second later.
        assert_eq!(waits, [0, 1, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        refusals.succeeded();
        assert!(refusals.may_try(Change::Stored) && refusals.may_try(Change::Stored));
        assert!(!refusals.may_try(Change::Stored));
    }

    #[test]
    fn only_a_reading_that_ended_a_cooldown_counts_as_a_retry() {
        let refusals = refused();
        for _ in 0..10 {
            assert!(refusals.may_end(Change::Stored, read("1")), "to ask costs no try");
        }
        refusals.begin();
        refusals.begin();
        assert_eq!(refusals.state().tries, 1);
    }

    #[test]
    fn assertions_that_differ_only_in_their_dates_are_the_same() {
        let jwt = |claims: &str, signature: &str| {
            let part = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
            format!("{}.{}.{signature}", part(r#"{"alg":"ES256"}"#), part(claims))
        };
        let one = jwt(r#"{"iss":"a","iat":1,"exp":2,"nbf":1,"jti":"x"}"#, "s1");
        let other = jwt(r#"{"iss":"a","iat":5,"exp":6,"nbf":5,"jti":"y"}"#, "s2");
        assert!(is_same_assertion(&one, &other));
        assert!(!is_same_assertion(&one, &jwt(r#"{"iss":"b","iat":1}"#, "s1")));
        for no_jwt in ["", "a", "a.b.c", "..", &format!("{one}.x"), "e30.e30"] {
            assert!(!is_same_assertion(no_jwt, no_jwt), "{no_jwt}");
        }
    }
}
