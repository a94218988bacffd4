//! The caches of entries that were evicted while somebody still had a handle.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use super::{entry::Entry, source::KeySource};
use crate::{
    cache::{TokenCache, WeakTokenCache, sync::Lock},
    key::KeyId,
};

/// A key that comes again gets its cache back, so that there is never more than one for it, and
/// what is forgotten is forgotten by every handle.
///
/// Its lock may be taken under that of the map, never the other way round.
#[derive(Default)]
pub(super) struct Detached(Lock<Kept>);

#[derive(Default)]
struct Kept {
    caches: HashMap<KeyId, Handles>,
    /// How many there were after those were dropped that nobody has any more.
    alive: usize,
}

struct Handles {
    cache: WeakTokenCache,
    source: Weak<KeySource>,
}

// ===== impl Detached =====

impl Detached {
    /// Notes the cache of an entry that goes, if there are other handles.
    pub(super) fn add(&self, entry: &Entry) {
        if !entry.cache().is_shared() {
            return;
        }
        let (cache, source) = (entry.cache().downgrade(), Arc::downgrade(entry.source()));
        let mut kept = self.0.lock();
        kept.caches.insert(entry.id.clone(), Handles { cache, source });
        if kept.caches.len() > 2 * kept.alive + 16 {
            kept.caches.retain(|_, handles| handles.alive().is_some());
            kept.alive = kept.caches.len();
        }
    }

    /// The cache of that key, for a new entry.
    pub(super) fn take(&self, id: &KeyId) -> Option<(TokenCache, Arc<KeySource>)> {
        self.0.lock().caches.remove(id)?.alive()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().caches.len()
    }

    /// Ends those that are meant.
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
    fn alive(&self) -> Option<(TokenCache, Arc<KeySource>)> {
        Some((self.cache.upgrade()?, self.source.upgrade()?))
    }
}
