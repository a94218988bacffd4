//! Records the events of the tokens: the marks above the calls in the charts.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// A handle; every clone is the same timeline.
#[derive(Clone, Default)]
pub(crate) struct Timeline {
    marks: Arc<Mutex<Vec<Mark>>>,
}

#[derive(Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) at: Instant,
    pub(crate) event: Event,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The token service issued a token.
    Fetched,
    /// The token service answered 503.
    Refused,
    /// Every token was revoked.
    Revoked,
    /// The token service went down.
    Down,
    /// The token service came back.
    Up,
    /// The API answered 401.
    Rejected,
}

impl Timeline {
    pub(crate) fn mark(&self, event: Event) {
        self.marks().push(Mark { at: Instant::now(), event });
    }

    pub(crate) fn since(&self, start: Instant) -> Vec<Mark> {
        self.marks().iter().filter(|mark| mark.at >= start).copied().collect()
    }

    fn marks(&self) -> MutexGuard<'_, Vec<Mark>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
