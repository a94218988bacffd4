//! The bounded map of entries, and the choice of which to evict.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use quick_cache::{
    DefaultHashBuilder, Equivalent, Lifecycle, OptionsBuilder, UnitWeighter, sync::Cache,
};

use super::{detached::Detached, entry::Entry, source::KeySource};
use crate::{
    cache::{TokenCache, sync::Lock},
    clock::Moment,
    key::{KeyId, LookUp, TokenKey},
    observe::{self, Label},
};

/// A map for fewer keys is not divided, so that it holds as many as it says.
const SHARD: usize = 1024;
/// How many of the keys that never had a token to look at, to find one to evict.
const LOOKS: usize = 16;
/// How often to look for idle entries: this many times in each idle time.
const SEARCHES: u32 = 4;

/// How exactly the last use is known: to this part of the idle time.
const GRAIN: u32 = 64;

/// Why the map dropped an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Evicted {
    /// Another key took its place.
    Capacity,
    /// It was not used for as long as the [idle
    /// time](crate::KeyedTokenCacheBuilder::idle).
    Idle,
    /// The program called [`forget`](crate::KeyedTokenCache::forget) or
    /// [`forget_subject`](crate::KeyedTokenCache::forget_subject).
    Forgotten,
}

pub(super) type Hook = Arc<dyn Fn(Evicted) + Send + Sync>;

/// What to do about entries that are dropped.
#[derive(Clone)]
pub(super) struct Evictions {
    pub(super) hook: Option<Hook>,
    pub(super) label: Label,
    pub(super) detached: Arc<Detached>,
}

pub(super) struct Map {
    entries: Cache<KeyId, Arc<Entry>, UnitWeighter, DefaultHashBuilder, Pins>,
    capacity: usize,
    idle: Duration,
    evictions: Evictions,
    order: Lock<Order>,
}

/// What is known of the order of eviction.
struct Order {
    /// The keys that had no token at the last look, the oldest first. Some of them may be gone.
    unproven: VecDeque<KeyId>,
    /// When to look for idle entries again.
    next_search: Moment,
}

// ===== impl Map =====

impl Map {
    #[expect(clippy::expect_used, reason = "all that these options need is set")]
    pub(super) fn new(capacity: usize, idle: Duration, evictions: Evictions) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(capacity.min(SHARD))
            .weight_capacity(capacity.try_into().unwrap_or(u64::MAX))
            .shards((capacity / SHARD).clamp(1, 64))
            .build()
            .expect("the capacity is set");
        let pins = Pins { evictions: evictions.clone() };
        Self {
            entries: Cache::with_options(
                options,
                UnitWeighter,
                DefaultHashBuilder::default(),
                pins,
            ),
            capacity,
            idle,
            evictions,
            order: Lock::new(Order { unproven: VecDeque::new(), next_search: Moment::PAST }),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many keys are noted that never had a token.
    #[cfg(test)]
    pub(super) fn unproven(&self) -> usize {
        self.order.lock().unproven.len()
    }

    /// How many caches are noted whose entries are gone.
    #[cfg(test)]
    pub(super) fn detached(&self) -> usize {
        self.evictions.detached.len()
    }

    /// The entry, unless it has been idle for too long.
    #[inline]
    pub(super) fn get(&self, key: &TokenKey, now: Moment) -> Option<Arc<Entry>> {
        let entry = self.entries.get(&key.look_up())?;
        if self.is_idle(&entry, now) && self.remove_idle(&entry.id, now) {
            return None;
        }
        // Not each time: threads that write to one place in turn wait for each other.
        if entry.last_used().after(self.idle / GRAIN) <= now {
            entry.touch(now);
        }
        Some(entry)
    }

    /// The entry. If there is none, the map makes one.
    pub(super) fn insert(
        &self,
        key: &TokenKey,
        make: impl FnOnce() -> (TokenCache, Arc<KeySource>),
    ) -> Arc<Entry> {
        let id = key.id();
        self.make_room();
        let mut is_new = false;
        let entry = self.entries.get_or_insert_with(&id, || {
            is_new = true;
            let (cache, source) = self.evictions.detached.take(&id).unwrap_or_else(make);
            Ok::<_, Infallible>(Arc::new(Entry::new(id.clone(), cache, source)))
        });
        let Ok(entry) = entry;
        if is_new {
            self.note_unproven(id);
        }
        observe::keys(&self.evictions.label, self.len());
        entry
    }

    pub(super) fn forget(&self, key: &TokenKey) {
        if let Some((_, entry)) = self.entries.remove(&key.look_up()) {
            self.forgotten(&entry);
        }
        self.evictions.detached.forget(|id| key.look_up().is(id));
    }

    pub(super) fn forget_all(&self, is_meant: impl Fn(&KeyId) -> bool) {
        let meant: Vec<_> = self.entries.iter().map(|(id, _)| id).filter(&is_meant).collect();
        for id in meant {
            if let Some((_, entry)) = self.entries.remove(&id) {
                self.forgotten(&entry);
            }
        }
        self.evictions.detached.forget(is_meant);
    }

    fn forgotten(&self, entry: &Entry) {
        entry.forget();
        self.gone(Evicted::Forgotten);
    }

    fn gone(&self, why: Evicted) {
        self.evictions.tell(why);
        observe::keys(&self.evictions.label, self.len());
    }

    // ----- Room for another key -----

    /// Evicts idle entries and, if the map is full, one that never had a token. If there is none,
    /// the map itself chooses.
    fn make_room(&self) {
        let now = Moment::now();
        self.remove_all_idle(now);
        if self.len() >= self.capacity && self.remove_unproven() {
            self.gone(Evicted::Capacity);
        }
    }

    fn remove_unproven(&self) -> bool {
        for _ in 0..LOOKS {
            let Some(id) = self.order.lock().unproven.pop_front() else { return false };
            let may_go = |it: &Arc<Entry>| !it.has_succeeded() && !is_pinned(it);
            if self.remove_if(&id, may_go) {
                return true;
            }
            let stays = self.entries.peek(&id).is_some_and(|entry| !entry.has_succeeded());
            if stays {
                self.order.lock().unproven.push_back(id);
            }
        }
        false
    }

    fn note_unproven(&self, id: KeyId) {
        let mut order = self.order.lock();
        order.unproven.push_back(id);
        let limit = self.capacity.saturating_mul(2).saturating_add(LOOKS);
        if order.unproven.len() <= limit {
            return;
        }
        let mut unproven = std::mem::take(&mut order.unproven);
        drop(order);
        // Without the order's lock, because this takes the map's own.
        unproven.retain(|id| self.entries.peek(id).is_some_and(|entry| !entry.has_succeeded()));
        unproven.truncate(limit);
        self.order.lock().unproven.extend(unproven);
    }

    fn remove_all_idle(&self, now: Moment) {
        {
            let mut order = self.order.lock();
            if now < order.next_search {
                return;
            }
            order.next_search = now.after(self.idle / SEARCHES);
        }
        let idle: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| self.is_idle(entry, now))
            .map(|(id, _)| id)
            .collect();
        for id in idle {
            self.remove_idle(&id, now);
        }
    }

    fn remove_idle(&self, id: &KeyId, now: Moment) -> bool {
        let may_go = |entry: &Arc<Entry>| self.is_idle(entry, now) && !entry.is_in_flight();
        let is_gone = self.remove_if(id, may_go);
        if is_gone {
            self.gone(Evicted::Idle);
        }
        is_gone
    }

    fn remove_if(&self, id: &KeyId, may_go: impl FnOnce(&Arc<Entry>) -> bool) -> bool {
        let detach = |entry: &Arc<Entry>| {
            let goes = may_go(entry);
            if goes {
                self.evictions.detached.add(entry);
            }
            goes
        };
        self.entries.remove_if(id, detach).is_some()
    }

    fn is_idle(&self, entry: &Entry, now: Moment) -> bool {
        entry.last_used().after(self.idle) <= now
    }
}

/// Whether a caller holds the entry, or its flight is in progress.
fn is_pinned(entry: &Arc<Entry>) -> bool {
    Arc::strong_count(entry) > 1 || entry.is_in_flight()
}

// ===== impl Evictions =====

impl Evictions {
    fn tell(&self, why: Evicted) {
        observe::key_evicted(&self.label, why.name());
        if let Some(hook) = &self.hook {
            hook(why);
        }
    }
}

impl Evicted {
    fn name(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Idle => "idle",
            Self::Forgotten => "forgotten",
        }
    }
}

impl Equivalent<KeyId> for LookUp<'_> {
    fn equivalent(&self, id: &KeyId) -> bool {
        self.is(id)
    }
}

// ===== Which entries the map may choose =====

#[derive(Clone)]
struct Pins {
    evictions: Evictions,
}

/// The entries that one insertion has evicted. They are dropped and reported without the map's
/// lock.
#[derive(Default)]
struct PushedOut {
    entries: Vec<Arc<Entry>>,
    evictions: Option<Evictions>,
}

impl Lifecycle<KeyId, Arc<Entry>> for Pins {
    type RequestState = PushedOut;

    fn is_pinned(&self, _: &KeyId, entry: &Arc<Entry>) -> bool {
        is_pinned(entry)
    }

    fn on_evict(&self, out: &mut PushedOut, _: KeyId, entry: Arc<Entry>) {
        self.evictions.detached.add(&entry);
        out.entries.push(entry);
        out.evictions.get_or_insert_with(|| self.evictions.clone());
    }
}

impl Drop for PushedOut {
    fn drop(&mut self) {
        for (_, evictions) in self.entries.drain(..).zip(self.evictions.iter().cycle()) {
            evictions.tell(Evicted::Capacity);
        }
    }
}
