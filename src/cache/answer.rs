//! The questions to the state, and its answers.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::{error::TokenError, token::AccessToken};

/// Who reports a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RejectedBy {
    /// A caller that waits for the renewal.
    Waiter,
    /// A layer that cannot send the request again.
    Layer,
    /// A caller that has seen more than the layer: until the renewal ends, no request may use the
    /// token there, although the origin has accepted it.
    Caller,
}

/// What a caller that wants a token gets.
#[derive(Debug)]
pub(super) enum Answer {
    /// This token.
    Token(Grant),
    /// The outcome of the flight in progress, which counts as lost at this time.
    Wait(Instant),
    /// The end of that flight. The caller then asks again, because the flight was not asked for
    /// what this caller needs.
    WaitAndAskAgain(Instant),
    /// No token, and why.
    Error(TokenError),
}

/// A token, and for how long it may be used without asking again.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) token: AccessToken,
    /// The version of the state that it belongs to.
    pub(super) version: u64,
    /// Until the state has something to decide; `None`: no time changes anything.
    pub(super) until: Option<Instant>,
    /// When the token expires.
    pub(super) expired: Option<Instant>,
    pub(super) suspect: bool,
    /// Whether the state wants to know that the token was accepted.
    pub(super) watched: bool,
}

/// A token, and when the fetch that returned it was called, by both clocks.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) token: AccessToken,
    pub(super) called: Instant,
    pub(super) called_wall: SystemTime,
}
