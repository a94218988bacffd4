//! The flights that returned no token.

use tokio::time::Instant;

use super::effects::Recovered;
use crate::error::TokenError;

#[derive(Debug, Default)]
pub(super) struct Failures {
    count: u64,
    /// How many since a flight last returned a token, and when the first of them ended.
    in_a_row: Option<(u64, Instant)>,
    /// Why the last flight failed, until the source answers.
    last: Option<TokenError>,
}

impl Failures {
    /// Adds one. Returns the error before it, which must be dropped without the lock.
    pub(super) fn add(&mut self, error: TokenError, now: Instant) -> Option<TokenError> {
        self.count = self.count.saturating_add(1);
        let (in_a_row, _) = self.in_a_row.get_or_insert((0, now));
        *in_a_row = in_a_row.saturating_add(1);
        self.last.replace(error)
    }

    /// The source has answered. Returns the last error, which must be dropped without the lock.
    pub(super) fn answered(&mut self) -> Option<TokenError> {
        self.last.take()
    }

    /// A flight has returned a token. Returns what is over now, if anything is.
    pub(super) fn end(&mut self, now: Instant) -> Option<Recovered> {
        let (failures, since) = self.in_a_row.take()?;
        Some(Recovered { failures, failing_for: now.saturating_duration_since(since) })
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn last(&self) -> Option<&TokenError> {
        self.last.as_ref()
    }
}
