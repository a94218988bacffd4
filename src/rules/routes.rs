//! The origins that were named, found by the authority as a request writes it.

use std::{
    fmt,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwapOption;
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::{pass::Pass, tokens::Tokens};
use crate::origin::{InvalidOrigin, Origin};

#[derive(Clone, Default)]
pub(super) struct Routes {
    all: Vec<Route>,
    /// By authority, in each common spelling; `http` and `https` apart.
    written: [FxHashMap<Box<str>, usize>; 2],
    by_origin: FxHashMap<Origin, usize>,
}

#[derive(Clone)]
pub(super) struct Route {
    origin: Origin,
    /// The usual spelling of the authority.
    authority: Box<str>,
    pub(super) tokens: Tokens,
    pub(super) slot: Slot,
}

/// The origin of a request that names none.
#[derive(Clone)]
pub(super) struct Assumed {
    pub(super) origin: Origin,
    pub(super) slot: Slot,
}

/// Where a pass is left for the next request. A clone is empty.
///
/// Few threads share a pass: each request takes and returns a reference, and a count that two
/// threads change in turn costs more than everything else that a request does here.
#[derive(Default)]
pub(super) struct Slot([ArcSwapOption<Pass>; SHARDS]);

/// How many threads do not share a pass.
const SHARDS: usize = 8;

/// Slots for origins that were not named. There are few, and a later origin takes one over.
#[derive(Clone)]
pub(super) struct Slots(Box<[Slot; 64]>);

// ===== impl Routes =====

impl Routes {
    pub(super) fn add(&mut self, origin: Origin, tokens: Tokens) -> Result<(), InvalidOrigin> {
        if let Some(known) = self.get(&origin) {
            let is_same = known.tokens.is_same(&tokens);
            return if is_same { Ok(()) } else { Err(InvalidOrigin::Taken(origin)) };
        }
        let at = self.all.len();
        let shown = origin.to_string();
        let authority = shown.split_once("://").map_or(&*shown, |(_, authority)| authority);
        let [http, https] = &mut self.written;
        let spellings = if origin.is_https() { https } else { http };
        let with_port = format!("{}:{}", origin.host().to_ascii_lowercase(), origin.port());
        for spelling in [authority, &with_port] {
            spellings.insert(spelling.into(), at);
        }
        let authority = authority.into();
        self.by_origin.insert(origin.clone(), at);
        self.all.push(Route { origin, authority, tokens, slot: Slot::default() });
        Ok(())
    }

    /// The route of an authority that is written in a common way.
    #[inline]
    pub(super) fn written(&self, is_https: bool, authority: &str) -> Option<&Route> {
        if let [only] = &*self.all {
            let is_it = only.origin.is_https() == is_https && *only.authority == *authority;
            if is_it {
                return Some(only);
            }
        }
        let [http, https] = &self.written;
        let at = if is_https { https } else { http }.get(authority)?;
        self.all.get(*at)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Origin, &Tokens)> {
        self.all.iter().map(|route| (&route.origin, &route.tokens))
    }

    pub(super) fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.all.iter().map(|route| &route.origin)
    }

    pub(super) fn get(&self, origin: &Origin) -> Option<&Route> {
        self.by_origin.get(origin).and_then(|at| self.all.get(*at))
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.origins()).finish()
    }
}

// ===== impl Slot =====

impl Slot {
    /// The pass, if `is_good` accepts it.
    #[inline]
    pub(super) fn get(&self, is_good: impl FnOnce(&Pass) -> bool) -> Option<Arc<Pass>> {
        self.shard().load_full().filter(|pass| is_good(pass))
    }

    pub(super) fn set(&self, pass: Arc<Pass>) {
        self.shard().store(Some(pass));
    }

    #[inline]
    fn shard(&self) -> &ArcSwapOption<Pass> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static SHARD: usize = shard_of(THREADS.fetch_add(1, Relaxed));
        }
        // A thread that is ending no longer has a number.
        let [first, ..] = &self.0;
        let shard = SHARD.try_with(|shard| *shard).unwrap_or_default();
        self.0.get(shard).unwrap_or(first)
    }
}

/// The shard of the nth thread.
fn shard_of(nth: usize) -> usize {
    nth % SHARDS
}

impl Clone for Slot {
    fn clone(&self) -> Self {
        Self::default()
    }
}

// ===== impl Slots =====

impl Slots {
    pub(super) fn of(&self, authority: &str) -> &Slot {
        let hash = FxBuildHasher.hash_one(authority);
        let [first, ..] = &*self.0;
        usize::try_from(hash % 64).ok().and_then(|at| self.0.get(at)).unwrap_or(first)
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self(Box::new(std::array::from_fn(|_| Slot::default())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_start_together_share_no_pass() {
        for first in [0, 5, usize::MAX - SHARDS + 1] {
            let mut shards: Vec<_> = (first..=first + (SHARDS - 1)).map(shard_of).collect();
            shards.sort_unstable();
            assert_eq!(shards, (0..SHARDS).collect::<Vec<_>>());
        }
    }
}
