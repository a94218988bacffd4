//! What a failure of the token service means for the keys that did not cause it.
//!
//! ```text
//! working ──a failure that holds for all keys──▶ out of order: one key tries, by its own cooldown;
//!    ▲                                           the others get its error
//!    │                     ┌─────────────────────────────────────┘ the cooldown is over
//!    │                     ▼
//!    └──a success── on trial: the first key that asks tries; the others get the error meanwhile
//!                          │
//!                          ├──an end that says nothing of the service──▶ on trial: the next key
//!                          └──a failure──▶ out of order, for longer
//! ```
//!
//! In between, the source may report that the cause of the failure was changed: then the next key
//! that asks is on trial at once.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{cache::policy::RefreshPolicy, clock::later::Later, error::TokenError};

/// How long at most a key waits that is refused during a trial: the trial may be over at any moment.
const TRIAL_WAIT: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Outage {
    policy: Arc<RefreshPolicy>,
    current: Option<Current>,
}

struct Current {
    error: TokenError,
    /// The key that may try.
    trying: u64,
    /// Until then no other key may try.
    until: Instant,
    /// How many cooldowns came in a row.
    nth: u32,
    is_on_trial: bool,
}

// ===== impl Outage =====

impl Outage {
    pub(super) fn new(policy: Arc<RefreshPolicy>) -> Self {
        Self { policy, current: None }
    }

    /// How long one attempt may take.
    pub(super) fn attempt_limit(&self) -> Duration {
        self.policy.attempt_limit()
    }

    /// Whether this key may ask the token service now.
    pub(super) fn may_try(&mut self, key: u64, now: Instant) -> Result<(), TokenError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if key == current.trying {
            return Ok(());
        }
        if now < current.until {
            let error = current.error.clone();
            let left = current.until.saturating_duration_since(now);
            let wait = if current.is_on_trial { left.min(TRIAL_WAIT) } else { left };
            // A permanent failure may be over at any time: it needs an operator.
            let error = if error.is_transient() { error.with_retry_after(wait) } else { error };
            return Err(error);
        }
        current.trying = key;
        current.until = now.later(self.policy.flight_limit());
        current.is_on_trial = true;
        Ok(())
    }

    /// The token service has failed for this key, in a way that holds for all keys. Returns the error
    /// before it, which must be dropped without the lock.
    #[must_use]
    pub(super) fn failed(
        &mut self,
        key: u64,
        error: &TokenError,
        now: Instant,
        random: f64,
    ) -> Option<TokenError> {
        let nth = match &self.current {
            None => 1,
            Some(current) if current.is_on_trial && current.trying == key => {
                current.nth.saturating_add(1)
            }
            Some(current) => current.nth,
        };
        let pause: Duration = self.policy.cooldowns(nth, error, random).0;
        let until = now.later(pause);
        let current = Current { error: error.clone(), trying: key, until, nth, is_on_trial: false };
        self.current.replace(current).map(|before| before.error)
    }

    /// This key's attempt has ended and says nothing of the token service. If it was the trial, the
    /// next key that asks is on trial.
    pub(super) fn undecided(&mut self, key: u64, now: Instant) {
        let trial = self.current.as_mut().filter(|it| it.is_on_trial && it.trying == key);
        if let Some(current) = trial {
            current.until = current.until.min(now);
        }
    }

    /// The token service has answered. Returns the last error, which must be dropped without the
    /// lock.
    #[must_use]
    pub(super) fn succeeded(&mut self) -> Option<TokenError> {
        self.current.take().map(|current| current.error)
    }

    /// The cause of the failure was changed.
    pub(super) fn recovered(&mut self, now: Instant) {
        if let Some(current) = &mut self.current {
            current.until = current.until.min(now);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.current.is_none()
    }
}
