//! How much memory may be kept for replays, over all requests.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many bytes, in permits.
#[derive(Clone)]
pub(crate) struct Budget {
    free: Arc<Semaphore>,
}

/// A part of the budget, until it is released or dropped.
pub(crate) struct Reservation {
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Budget {
    pub(crate) fn new(total: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(total as usize)) }
    }

    /// Reserves without waiting: a request that gets nothing is sent all the same.
    pub(crate) fn reserve(&self, bytes: u32) -> Option<Reservation> {
        let permit = Arc::clone(&self.free).try_acquire_many_owned(bytes).ok()?;
        Some(Reservation { permit: Mutex::new(Some(permit)) })
    }

    /// How many bytes are not reserved.
    pub(crate) fn free(&self) -> usize {
        self.free.available_permits()
    }
}

impl Reservation {
    /// Nothing is kept any more.
    pub(crate) fn release(&self) {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_comes_back_once() {
        let budget = Budget::new(10);
        let first = budget.reserve(6).unwrap();
        assert!(budget.reserve(5).is_none());
        let second = budget.reserve(4).unwrap();
        first.release();
        first.release();
        assert_eq!(budget.free(), 6);
        drop((first, second));
        assert_eq!(budget.free(), 10);
    }
}
