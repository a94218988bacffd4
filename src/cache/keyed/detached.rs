//! The caches of entries that were evicted while a caller still had a handle.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use super::{entry::Entry, source::KeySource};
use crate::{
    cache::{TokenCache, WeakTokenCache, sync::Lock},
    key::KeyId,
};

/// If such a key comes again, it gets its cache back. So there is never more than one cache for a
/// key, and what is forgotten is forgotten by every handle.
///
/// Its lock may be taken under that of the map, never the other way round.
#[derive(Default)]
pub(super) struct Detached(Lock<Kept>);

#[derive(Default)]
struct Kept {
    caches: HashMap<KeyId, Handles>,
    /// How many were left when those without a handle were last removed.
    alive: usize,
}

struct Handles {
    cache: WeakTokenCache,
    source: Weak<KeySource>,
}

// ===== impl Detached =====

impl Detached {
    /// Notes the cache of an evicted entry, if there are other handles.
    pub(super) fn add(&self, entry: &Entry) {
        if !entry.cache().is_shared() {
            return;
        }
        let (cache, source) = (entry.cache().downgrade(), Arc::downgrade(entry.source()));
        let mut kept = self.0.lock();
        kept.caches.insert(entry.id.clone(), Handles { cache, source });
        if kept.caches.len() > kept.alive.saturating_mul(2).saturating_add(16) {
            // To take them would drop the last of some here, under the lock.
            kept.caches.retain(|_, handles| handles.is_alive());
            kept.alive = kept.caches.len();
        }
    }

    /// The cache of this key, for a new entry.
    pub(super) fn take(&self, id: &KeyId) -> Option<(TokenCache, Arc<KeySource>)> {
        self.0.lock().caches.remove(id)?.alive()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().caches.len()
    }

    /// Forgets those that `is_meant` selects.
    pub(super) fn forget(&self, is_meant: impl Fn(&KeyId) -> bool) {
        let mut meant = Vec::new();
        self.0.lock().caches.retain(|id, handles| {
            let stays = !is_meant(id);
            if !stays {
                meant.extend(handles.alive());
            }
            stays
        });
        for (cache, source) in meant {
            // In this order, as `Entry::forget`.
            source.forget();
            cache.forget();
        }
    }
}

impl Handles {
    fn is_alive(&self) -> bool {
        self.cache.is_alive() && self.source.strong_count() > 0
    }

    fn alive(&self) -> Option<(TokenCache, Arc<KeySource>)> {
        Some((self.cache.upgrade()?, self.source.upgrade()?))
    }
}
