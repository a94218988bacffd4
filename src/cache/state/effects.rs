//! What a transition leaves to be done without the lock.

use std::time::Duration;

use super::FlightId;
use crate::{
    cache::origins::BackedOff,
    error::TokenError,
    observe,
    source::{Reason, TokenRequest},
};

#[derive(Debug, Default)]
pub(in crate::cache) struct Effects {
    /// A flight to start now.
    pub(in crate::cache) start: Option<Start>,
    /// What to tell.
    pub(in crate::cache) events: Vec<Event>,
    /// Errors to drop: they hold values of the user's types, whose `Drop` may ask the cache.
    pub(in crate::cache) spent: Vec<TokenError>,
}

#[derive(Debug)]
pub(in crate::cache) struct Start {
    pub(in crate::cache) id: FlightId,
    pub(in crate::cache) request: TokenRequest,
}

#[derive(Debug)]
pub(in crate::cache) enum Event {
    Finished(Finished),
    BackedOff(BackedOff),
}

/// A flight is over.
#[derive(Debug)]
pub(in crate::cache) struct Finished {
    pub(super) reason: Reason,
    pub(super) took: Duration,
    pub(super) error: Option<TokenError>,
    /// How long nothing is fetched now.
    pub(super) cooldown: Option<Duration>,
}

impl Event {
    pub(in crate::cache) fn tell(&self) {
        match self {
            Self::Finished(it) => {
                observe::finished(it.reason.name(), it.took, it.error.as_ref(), it.cooldown);
            }
            Self::BackedOff(it) => observe::backed_off(it.origin.as_ref(), it.nth, it.pause),
        }
    }
}
