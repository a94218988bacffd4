//! All locks and atomics of the cache: a schedule explorer replaces this module.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use arc_swap::ArcSwapOption;

/// A short lock. It is never poisoned: what it guards is whole between any two statements that may
/// panic.
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
pub(super) struct Slot<T>(ArcSwapOption<T>);

impl<T> Slot<T> {
    pub(super) fn store(&self, value: Option<T>) {
        self.0.store(value.map(Arc::new));
    }

    pub(super) fn read<R>(&self, look: impl FnOnce(Option<&T>) -> R) -> R {
        look(self.0.load().as_deref())
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(ArcSwapOption::empty())
    }
}

/// A number that only one thread at a time writes, under the lock.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn store(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    pub(super) fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Something that only one holder at a time may have.
#[derive(Debug, Default)]
pub(super) struct Single(AtomicBool);

impl Single {
    /// Takes it. Returns whether it was free.
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    pub(super) fn give_back(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A value that is set once, or never.
#[derive(Debug)]
pub(super) struct Once<T>(OnceLock<T>);

impl<T> Once<T> {
    /// Sets it, unless it is set.
    pub(super) fn set(&self, value: T) {
        self.0.get_or_init(|| value);
    }

    pub(super) fn get(&self) -> Option<&T> {
        self.0.get()
    }

    pub(super) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        self.0.get_or_init(make)
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}
