//! What happened under the lock, and is told and dropped without it.

use std::time::Duration;

use super::strikes::Strike;
use crate::{error::TokenError, observe, source::Reason, token::AccessToken};

/// What the shell takes out and sees to without the lock.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Errors that were replaced: they hold values of the user's types, with a `Drop`.
    pub(super) litter: Vec<TokenError>,
    /// Flights that were found to be lost.
    pub(super) ended: Vec<Ended>,
    pub(super) strikes: Vec<Strike>,
}

/// A flight that is over.
#[derive(Debug)]
pub(super) struct Ended {
    /// What its waiters get.
    pub(super) outcome: Result<AccessToken, TokenError>,
    pub(super) reason: Reason,
    pub(super) took: Duration,
    /// How long the source rests now.
    pub(super) rest: Option<Duration>,
}

impl Ended {
    pub(super) fn observe(&self) {
        observe::landed(self.reason, self.took, self.outcome.as_ref().err(), self.rest);
    }
}

impl News {
    pub(super) fn observe(self) {
        self.ended.iter().for_each(Ended::observe);
        for strike in &self.strikes {
            observe::struck(strike.origin.as_ref(), strike.nth, strike.held_for);
        }
    }
}
