//! The memory budget for replays, over all requests.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of bytes, each one a permit of a semaphore.
#[derive(Clone)]
pub(crate) struct Budget {
    free: Arc<Semaphore>,
}

/// A part of the budget. It returns its bytes when it is released or dropped.
pub(crate) struct Reservation {
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Budget {
    pub(crate) fn new(total: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(total as usize)) }
    }

    /// Reserves without waiting: without a reservation the sidecar still sends the request.
    pub(crate) fn reserve(&self, bytes: u32) -> Option<Reservation> {
        let permit = Arc::clone(&self.free).try_acquire_many_owned(bytes).ok()?;
        Some(Reservation { permit: Mutex::new(Some(permit)) })
    }

    /// The number of unreserved bytes.
    pub(crate) fn free(&self) -> usize {
        self.free.available_permits()
    }
}

impl Reservation {
    /// Returns the bytes to the budget.
    pub(crate) fn release(&self) {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_returns_its_bytes_once() {
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
