//! What the state consists of: the token, the flight in progress, and what is wanted.

use tokio::time::Instant;

use crate::{
    cache::{
        names::{FlightId, TokenId},
        policy::Dates,
        rejection::Demand,
    },
    source::Reason,
    token::AccessToken,
};

/// What the cache must have although no caller waits for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wanted {
    #[default]
    Nothing,
    /// A token, once.
    First,
    /// A token, at any time.
    Always,
}

/// A token as a flight returned it.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) id: TokenId,
    pub(super) token: AccessToken,
    /// From a renewal: unproven at an origin until accepted there.
    pub(super) renewed: bool,
    /// What the rejection demanded that this token answers.
    pub(super) demand: Option<Demand>,
}

/// The current token. Without dates it lives until it is rejected.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) fetched: Fetched,
    pub(super) dates: Option<Dates>,
    /// Rejected by an API.
    pub(super) suspect: bool,
}

#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: FlightId,
    pub(super) reason: Reason,
    pub(super) started: Instant,
    /// The token that the flight is to replace, if a rejection started it.
    pub(super) rejected: Option<AccessToken>,
    /// What that rejection demanded.
    pub(super) demand: Option<Demand>,
    /// Whether a rejection of the current token waits for it.
    pub(super) renews: bool,
    pub(super) lost_at: Instant,
}

impl Current {
    pub(super) fn token(&self) -> &AccessToken {
        &self.fetched.token
    }

    /// Whether the token has not expired.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.dates.is_none_or(|dates| now < dates.expired)
    }
}
