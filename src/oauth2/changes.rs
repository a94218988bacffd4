//! Whether something has changed since a service refused, so that another try makes sense.
//!
//! A secret that was rotated is worth a try at once. A secret that is *made* each time that it is
//! read, such as a signed assertion, differs at each reading and says nothing; nobody can tell
//! the two apart for sure, so there are three lines of defence:
//!
//! 1. What is kept (a variable, a file) has changed if its text has. What a function returns has
//!    changed if it is more than an assertion with other dates, and if it keeps still: within
//!    a fetch, for a little more than a second.
//! 2. Between fetches, what a function returns has changed only if it keeps still from one
//!    question to the next, a second apart: before the change or after it.
//! 3. Whatever has changed, the first two tries of a series of refusals are early. Each further
//!    one waits for twice as long as the one before. A success ends the series.
//!
//! All keys share the secrets, and so what is known of them. A refusal that is about a key, or
//! about the subject in it, says nothing about the secrets and is never noted here.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::request::Readings;
use crate::{secret::Secret, source::TokenRequest};

/// How many early tries a series of refusals has.
const FREE_TRIES: u32 = 2;
/// How long the next one waits, and at most. Meanwhile the cache tries by itself, every five
/// minutes at least, so that a long wait keeps nothing from being mended.
const TRY_AFTER: Duration = Duration::from_secs(30);
const TRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// The claims of a JWT that are new each time (RFC 7519 §4.1).
const DATED_CLAIMS: [&str; 4] = ["iat", "exp", "nbf", "jti"];

/// What has changed between two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    /// Something that a function makes anew for each reading: that says nothing.
    Anew,
    /// Something that a function returns.
    Made,
    /// Something that is kept somewhere, or what is redeemed, which nobody makes anew.
    Kept,
}

/// What is remembered of refusals.
#[derive(Default)]
pub(super) struct Refusals {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last fetch, if it failed for good.
    last: Option<Refusal>,
    /// The early tries since the last success, and when the last one was.
    tries: u32,
    last_try: Option<Instant>,
    /// A try with what a function had returned anew was refused as well.
    is_made_anew: bool,
}

/// A fetch that failed for good.
#[derive(Clone)]
pub(super) struct Refusal {
    pub(super) request: TokenRequest,
    /// What was sent; `None` if a secret could not be read.
    pub(super) sent: Option<Readings>,
    /// Whether what the functions return was seen to keep still.
    keeps_still: bool,
    /// What was read last, if it differs from what was sent.
    seen: Option<Readings>,
    /// Whether the pause after it was ended early.
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
            return Self::Kept;
        }
        let mut change = Self::Nothing;
        for ((secret, before), now) in secrets.zip(&before.secrets).zip(&now.secrets) {
            match secret.is_made() {
                _ if before == now => {}
                false => return Self::Kept,
                true if is_same_assertion(before, now) => {}
                true => change = Self::Made,
            }
        }
        change
    }
}

/// Whether both are assertions that say the same but for their dates.
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
    /// A fetch begins.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        if state.last.as_mut().is_some_and(|last| std::mem::take(&mut last.is_over)) {
            state.count(Instant::now());
        }
    }

    /// A fetch has brought a token.
    pub(super) fn succeeded(&self) {
        *self.state() = State::default();
    }

    /// A fetch has failed; for good, if there is a refusal.
    pub(super) fn failed(&self, refusal: Option<Refusal>) {
        self.state().last = refusal;
    }

    pub(super) fn last(&self) -> Option<Refusal> {
        self.state().last.clone()
    }

    /// Whether to try again within a fetch, which then counts as an early try.
    pub(super) fn may_try(&self, change: Change) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        let is_new = match change {
            Change::Nothing | Change::Anew => false,
            Change::Made => !state.is_made_anew,
            Change::Kept => true,
        };
        let may_try = is_new && state.may_try(now);
        if may_try {
            state.count(now);
        }
        may_try
    }

    /// A try within a fetch, with something that a function had returned anew, was refused.
    pub(super) fn was_made_anew(&self) {
        self.state().is_made_anew = true;
    }

    /// Whether the pause after the last refusal ends early, now that this was read.
    pub(super) fn may_end(&self, change: Change, read: Readings) -> bool {
        let mut state = self.state();
        let may_try = state.may_try(Instant::now());
        let Some(last) = &mut state.last else { return false };
        let is_new = match change {
            Change::Kept => true,
            Change::Made => last.keeps_still || last.seen.as_ref() == Some(&read),
            Change::Anew => false,
            Change::Nothing => {
                last.keeps_still = true;
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
        Self { request, sent, keeps_still: false, seen: None, is_over: false }
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
    fn a_change_of_what_a_function_returns_counts_once_it_was_seen_to_keep_still() {
        let refusals = refused();
        assert!(!refusals.may_end(Change::Made, read("1")));
        assert!(!refusals.may_end(Change::Made, read("2")));
        assert!(refusals.may_end(Change::Made, read("2")), "after the change");

        let refusals = refused();
        assert!(!refusals.may_end(Change::Nothing, read("0")));
        assert!(refusals.may_end(Change::Made, read("1")), "before the change");
    }

    #[test]
    fn what_is_made_anew_for_each_reading_does_not_keep_still() {
        let refusals = refused();
        assert!(!refusals.may_end(Change::Anew, read("1")));
        assert!(!refusals.may_end(Change::Made, read("2")));
        assert!(!refusals.may_try(Change::Anew) && !refusals.may_try(Change::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn early_tries_are_few_and_get_rarer_until_one_succeeds() {
        let refusals = refused();
        let mut waits = Vec::new();
        let mut last = Instant::now();
        while waits.len() < 11 {
            if refusals.may_try(Change::Kept) {
                waits.push(last.elapsed().as_secs());
                last = Instant::now();
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // The second comes with the next look, a second later.
        assert_eq!(waits, [0, 1, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        refusals.succeeded();
        assert!(refusals.may_try(Change::Kept) && refusals.may_try(Change::Kept));
        assert!(!refusals.may_try(Change::Kept));
    }

    #[test]
    fn only_what_ended_a_pause_counts_as_a_try_when_the_next_fetch_begins() {
        let refusals = refused();
        for _ in 0..10 {
            assert!(refusals.may_end(Change::Kept, read("1")), "to ask costs no try");
        }
        refusals.begin();
        refusals.begin();
        assert_eq!(refusals.state().tries, 1);
    }

    #[test]
    fn assertions_are_the_same_but_for_their_dates() {
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
