//! The pause after a failed flight, in which nothing is fetched.

use tokio::time::Instant;

use super::policy::RefreshPolicy;
use crate::error::TokenError;

/// The rest after the last failure. It may be over; it counts on until a fetch succeeds.
#[derive(Debug)]
pub(super) struct Rest {
    is_permanent: bool,
    /// How many failures of this kind came in a row.
    nth: u32,
    until_without_token: Instant,
    until_with_token: Instant,
}

impl Rest {
    /// The rest after this failure; `before` is the one after the failure before it.
    pub(super) fn after(
        error: &TokenError,
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
        let (without_token, with_token) = policy.rests(nth, error, random);
        Self {
            is_permanent,
            nth,
            until_without_token: now + without_token,
            until_with_token: now + with_token,
        }
    }

    /// Whether somebody has to mend something.
    pub(super) fn is_permanent(&self) -> bool {
        self.is_permanent
    }

    pub(super) fn until(&self, has_token: bool) -> Instant {
        if has_token { self.until_with_token } else { self.until_without_token }
    }
}
