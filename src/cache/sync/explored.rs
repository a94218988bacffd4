//! What the explorer has no counterpart of.

use std::sync::Arc;

use shuttle::sync::Mutex;

/// As arc-swap's: a value that is replaced and read in one step.
#[derive(Debug)]
pub(super) struct ArcSwapOption<T>(Mutex<Option<Arc<T>>>);

impl<T> ArcSwapOption<T> {
    pub(super) fn empty() -> Self {
        Self(Mutex::new(None))
    }

    pub(super) fn store(&self, value: Option<Arc<T>>) {
        let before = std::mem::replace(&mut *self.0.lock().unwrap(), value);
        drop(before);
    }

    pub(super) fn load(&self) -> Option<Arc<T>> {
        self.0.lock().unwrap().clone()
    }
}
