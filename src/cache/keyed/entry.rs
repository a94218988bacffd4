//! What the map holds for one key.

use std::sync::Arc;

use super::{attached::Attached, source::KeySource};
use crate::{
    cache::{TokenCache, sync::Counter},
    clock::Moment,
    key::KeyId,
};

pub(crate) struct Entry {
    pub(super) id: KeyId,
    cache: TokenCache,
    source: Arc<KeySource>,
    pub(crate) attached: Attached,
    used: Counter,
}

// ===== impl Entry =====

impl Entry {
    pub(super) fn new(id: KeyId, cache: TokenCache, source: Arc<KeySource>) -> Self {
        let used = Counter::default();
        used.store(Moment::now().ticks());
        Self { id, cache, source, attached: Attached::default(), used }
    }

    pub(crate) fn cache(&self) -> &TokenCache {
        &self.cache
    }

    pub(super) fn source(&self) -> &Arc<KeySource> {
        &self.source
    }

    /// Notes that the entry is used. Threads that do so at the same time write the same.
    pub(super) fn touch(&self, now: Moment) {
        self.used.store(now.ticks());
    }

    pub(super) fn last_used(&self) -> Moment {
        Moment::of_ticks(self.used.load())
    }

    /// Whether a fetch is in progress.
    pub(super) fn is_in_flight(&self) -> bool {
        self.cache.is_fetching()
    }

    /// Whether it ever had a token.
    pub(super) fn has_succeeded(&self) -> bool {
        self.source.has_succeeded()
    }

    /// Ends the entry: it publishes nothing more, and drops its subject.
    pub(super) fn forget(&self) {
        // First the source, which sees by it that the end of its flight is no fault of the service.
        self.source.forget();
        self.cache.forget();
    }
}
