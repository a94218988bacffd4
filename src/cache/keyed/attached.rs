//! What the layer leaves with an entry for its next request.

use std::{any::Any, sync::Arc};

use arc_swap::ArcSwapOption;

/// One value of a type that this module does not know. Reading it takes no lock and no allocation.
#[derive(Default)]
pub(crate) struct Attached(ArcSwapOption<Box<dyn Any + Send + Sync>>);

impl Attached {
    /// The value that was left last, if it has this type and `is_good` accepts it.
    #[inline]
    pub(crate) fn get<T: Any>(&self, is_good: impl FnOnce(&T) -> bool) -> Option<Arc<T>> {
        let left = self.0.load();
        let left: &(dyn Any + Send + Sync) = &***left.as_ref()?;
        left.downcast_ref::<Arc<T>>().filter(|left| is_good(left)).cloned()
    }

    pub(crate) fn set<T: Any + Send + Sync>(&self, value: Arc<T>) {
        self.0.store(Some(Arc::new(Box::new(value))));
    }
}
