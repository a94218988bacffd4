//! What the state is asked and answers.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::{error::TokenError, token::AccessToken};

/// Who says that a token was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RejectedBy {
    /// One that waits for the renewal.
    Waiter,
    /// A layer that cannot send the request again.
    Layer,
    /// A caller who has seen more than the layer: until the renewal ends, no request may use the token
    /// there, although the origin has accepted it.
    Caller,
}

/// What a caller who wants a token gets.
#[derive(Debug)]
pub(super) enum Answer {
    /// This token.
    Token(Grant),
    /// The outcome of the flight under way, which counts as lost at this time.
    Wait(Instant),
    /// The end of that flight, and then the caller asks again: the flight was not asked for
    /// what this caller needs.
    WaitAndAskAgain(Instant),
    /// Nothing, and why.
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
    /// Whether the state wants to hear that the token was accepted.
    pub(super) watched: bool,
}

/// A token, and when the fetch that brought it was called, by both clocks.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) token: AccessToken,
    pub(super) called: Instant,
    pub(super) called_wall: SystemTime,
}
