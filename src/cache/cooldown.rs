//! The pause after a failed flight, in which the cache fetches nothing.

use tokio::time::Instant;

use super::{
    names::FlightId,
    policy::{RECOVERY_INTERVAL, RefreshPolicy},
};
use crate::{clock::later::Later, error::TokenError};

/// The cooldown after the last failure. It may be over; its count goes on until a fetch succeeds.
#[derive(Debug)]
pub(super) struct Cooldown {
    /// The flight that failed: it names the cooldown.
    caused_by: FlightId,
    is_permanent: bool,
    /// How many failures of this kind came in a row.
    nth: u32,
    until_without_token: Instant,
    until_with_token: Instant,
    /// How long the token service asked its clients to wait: no recovery ends that.
    asked_until: Instant,
    /// Before this time the source is not asked again whether it has recovered.
    next_check: Option<Instant>,
}

impl Cooldown {
    /// The cooldown after this failure. `before` is the one after the failure before it.
    pub(super) fn after(
        (caused_by, error): (FlightId, &TokenError),
        before: Option<&Self>,
        policy: &RefreshPolicy,
        now: Instant,
        random: f64,
    ) -> Self {
        let is_permanent = !error.is_transient();
        let nth = match before {
            Some(before) if before.is_permanent == is_permanent => before.nth.saturating_add(1),
            _ => 1,
        };
        let (without_token, with_token) = policy.cooldowns(nth, error, random);
        let asked = error.retry_after().unwrap_or_default().min(without_token);
        Self {
            caused_by,
            is_permanent,
            nth,
            until_without_token: now.later(without_token),
            until_with_token: now.later(with_token),
            asked_until: now.later(asked),
            next_check: before.and_then(|before| before.next_check),
        }
    }

    pub(super) fn until(&self, has_token: bool) -> Instant {
        if has_token { self.until_with_token } else { self.until_without_token }
    }

    /// The flight that failed, if the source may recover from that by itself: a permanent
    /// failure stays until an operator changes something, which the source may notice.
    pub(super) fn recoverable(&self) -> Option<FlightId> {
        self.is_permanent.then_some(self.caused_by)
    }

    /// When the source may be asked whether it has recovered; `None` if there is nothing to
    /// recover from.
    pub(super) fn recovery_check_at(&self, has_token: bool, now: Instant) -> Option<Instant> {
        let matters = self.is_permanent && self.until(has_token) > now;
        matters.then(|| self.next_check.map_or(now, |next| next.max(now)))
    }

    /// The same, now. If it may be asked, that counts as done.
    pub(super) fn may_check_recovery(&mut self, has_token: bool, now: Instant) -> Option<FlightId> {
        if self.recovery_check_at(has_token, now)? > now {
            return None;
        }
        self.next_check = Some(now.later(RECOVERY_INTERVAL));
        self.recoverable()
    }

    /// The cause of the failure has changed.
    pub(super) fn end_early(&mut self) {
        self.until_without_token = self.until_without_token.min(self.asked_until);
        self.until_with_token = self.until_with_token.min(self.asked_until);
    }
}
