//! The locks and atomics of the cache, all of them: a schedule explorer replaces this module.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;

/// A short lock. Nothing is ever poisoned: what it guards is whole between any two statements
/// that may panic.
#[derive(Debug, Default)]
pub(super) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A value that is replaced as a whole, and read without a lock and without an allocation.
#[derive(Debug)]
pub(super) struct Published<T>(ArcSwapOption<T>);

impl<T> Published<T> {
    pub(super) fn empty() -> Self {
        Self(ArcSwapOption::empty())
    }

    pub(super) fn publish(&self, value: Option<T>) {
        self.0.store(value.map(Arc::new));
    }

    pub(super) fn read<R>(&self, look: impl FnOnce(Option<&T>) -> R) -> R {
        look(self.0.load().as_deref())
    }
}
