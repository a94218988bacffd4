//! What a transition leaves to do without the lock.

use std::time::Duration;

use super::{
    names::FlightId,
    origins::{AcceptedAgain, BackedOff},
};
use crate::{
    error::TokenError,
    observe::{self, Label},
    source::{Reason, TokenRequest},
};

#[derive(Debug, Default)]
pub(super) struct Effects {
    /// A flight to start now.
    pub(super) start: Option<Start>,
    /// What to report.
    pub(super) events: Vec<Event>,
    /// Errors to drop: they hold values of the user's types, whose `Drop` may ask the cache.
    pub(super) spent: Vec<TokenError>,
}

#[derive(Debug)]
pub(super) struct Start {
    pub(super) id: FlightId,
    pub(super) request: TokenRequest,
}

#[derive(Debug)]
pub(super) enum Event {
    Finished(Finished),
    Recovered(Recovered),
    BackedOff(BackedOff),
    AcceptedAgain(AcceptedAgain),
}

/// A flight has ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) reason: Reason,
    pub(super) took: Duration,
    pub(super) error: Option<TokenError>,
    /// For how long the cache fetches nothing now.
    pub(super) cooldown: Option<Duration>,
}

/// How many flights failed in a row, the first of them this long ago.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) failures: u64,
    pub(super) failing_for: Duration,
}

impl Event {
    pub(super) fn tell(&self, source: &Label) {
        match self {
            Self::Finished(it) => {
                let error = it.error.as_ref();
                observe::finished(source, it.reason.name(), it.took, error, it.cooldown);
            }
            Self::Recovered(it) => observe::recovered(source, it.failures, it.failing_for),
            Self::AcceptedAgain(it) => {
                observe::accepted_again(source, it.origin.as_ref(), it.backoffs);
            }
            Self::BackedOff(it) => {
                observe::backed_off(source, it.origin.as_ref(), it.nth, it.pause);
            }
        }
    }
}
