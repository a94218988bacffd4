//! How a cache is doing.

use tokio::time::Instant;

use crate::error::TokenError;

/// How a [`TokenCache`](crate::TokenCache) was doing at one moment: for a readiness probe, or
/// for a long-lived stream that has to know before its token expires.
///
/// Times are tokio's, so that tests can pause them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    pub(super) has_token: bool,
    pub(super) suspect: bool,
    pub(super) due: Option<Instant>,
    pub(super) expiry: Option<Instant>,
    pub(super) fetching: bool,
    pub(super) cooldown_until: Option<Instant>,
    pub(super) last_error: Option<TokenError>,
    pub(super) flights: u64,
    pub(super) failures: u64,
}

impl Status {
    /// Whether there was a usable token: one that had not expired.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.has_token
    }

    /// Whether that token was suspect: rejected somewhere, and not replaced yet.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// From when on the token is refreshed by the next request.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// From when on the token is not used any more; `None` also if that is not known.
    #[must_use]
    pub fn expiry(&self) -> Option<Instant> {
        self.expiry
    }

    /// Whether a flight was under way.
    #[must_use]
    pub fn is_fetching(&self) -> bool {
        self.fetching
    }

    /// Until when nothing is fetched, after a failure.
    #[must_use]
    pub fn cooldown_until(&self) -> Option<Instant> {
        self.cooldown_until
    }

    /// Why the last flight failed; `None` once one has succeeded.
    #[must_use]
    pub fn last_error(&self) -> Option<&TokenError> {
        self.last_error.as_ref()
    }

    /// How many flights were started, ever.
    #[must_use]
    pub fn flights(&self) -> u64 {
        self.flights
    }

    /// How many of them failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures
    }
}
