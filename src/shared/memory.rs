//! A store in the memory of one process, for tests.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{sync::Notify, time::Instant};

use super::{
    record::MAX_LEN,
    store::{Loaded, StoreError, Swapped, TokenStore, Version},
};

/// A store in the memory of one process. With it a test can have a fleet of [`Shared`] sources
/// without another program. All clones are the same store.
///
/// It uses tokio's clock, which a test can pause and advance.
///
/// [`Shared`]: super::Shared
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use tower_bearer::{
///     AccessToken, TokenCache, TokenError, from_fn,
///     shared::{MemoryStore, Seal, Shared},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), TokenError> {
/// static FETCHES: AtomicUsize = AtomicUsize::new(0);
/// let store = MemoryStore::new();
/// let process = || {
///     let source = from_fn(|_| async {
///         let nth = FETCHES.fetch_add(1, Ordering::Relaxed);
///         AccessToken::new(format!("token-{nth}")).map_err(TokenError::permanent)
///     });
///     TokenCache::new(Shared::new(source, store.clone()).name("orders").seal(Seal::new("01".repeat(32))))
/// };
/// let (one, other) = (process(), process());
/// assert_eq!(one.get().await?.secret(), "token-0");
/// assert_eq!(other.get().await?.secret(), "token-0");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

struct Inner {
    began: (SystemTime, Instant),
    records: Mutex<Records>,
    changed: Notify,
}

#[derive(Default)]
struct Records {
    swaps: u64,
    by_name: HashMap<String, (u64, Vec<u8>)>,
}

// ===== impl MemoryStore =====

impl MemoryStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        let inner = Inner {
            began: (SystemTime::now(), Instant::now()),
            records: Mutex::default(),
            changed: Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Deletes all records.
    pub fn clear(&self) {
        self.records().by_name.clear();
        self.inner.changed.notify_waiters();
    }

    /// Stores any bytes under that name, unconditionally.
    pub fn put(&self, name: &str, sealed: impl Into<Vec<u8>>) {
        let mut records = self.records();
        records.swaps = records.swaps.wrapping_add(1);
        let version = records.swaps;
        records.by_name.insert(name.to_owned(), (version, sealed.into()));
        self.inner.changed.notify_waiters();
    }

    /// Returns the bytes under that name.
    #[must_use]
    pub fn sealed(&self, name: &str) -> Option<Vec<u8>> {
        self.records().by_name.get(name).map(|(_, sealed)| sealed.clone())
    }

    /// Returns the names of all records, in no particular order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.records().by_name.keys().cloned().collect()
    }

    /// Returns the number of writes so far.
    #[must_use]
    pub fn swaps(&self) -> u64 {
        self.records().swaps
    }

    fn version(&self, name: &str) -> Version {
        let version = self.records().by_name.get(name).map(|(version, _)| *version);
        version.map_or(Version::NONE, |version| Version::new(version.to_le_bytes()))
    }

    fn now(&self) -> SystemTime {
        let (time, instant) = self.inner.began;
        time.checked_add(instant.elapsed()).unwrap_or(time)
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.inner.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl TokenStore for MemoryStore {
    async fn load(&self, name: &str) -> Result<Loaded, StoreError> {
        Ok(match self.records().by_name.get(name) {
            None => Loaded::nothing(self.now()),
            Some((version, sealed)) => {
                // Just enough bytes to show that it is too large.
                let sealed = sealed.iter().copied().take(MAX_LEN + 1).collect();
                Loaded::record(sealed, Version::new(version.to_le_bytes()), self.now())
            }
        })
    }

    async fn swap(&self, name: &str, seen: &Version, sealed: &[u8]) -> Result<Swapped, StoreError> {
        let mut records = self.records();
        let current = records.by_name.get(name).map(|(version, _)| version.to_le_bytes());
        if current.as_ref().map(<[u8; 8]>::as_slice) != seen.as_bytes() {
            return Ok(Swapped::Conflict);
        }
        records.swaps = records.swaps.wrapping_add(1);
        let version = records.swaps;
        records.by_name.insert(name.to_owned(), (version, sealed.to_vec()));
        self.inner.changed.notify_waiters();
        Ok(Swapped::Done(Version::new(version.to_le_bytes())))
    }

    /// Returns as soon as any record is written, and after a second otherwise.
    async fn changed(&self, name: &str, seen: &Version) {
        // Subscribed before the look, so that no later write is missed.
        let changed = self.inner.changed.notified();
        if self.version(name) == *seen {
            // A second without a write is not a failure.
            let _ = tokio::time::timeout(Duration::from_secs(1), changed).await;
        }
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("swaps", &self.swaps()).finish_non_exhaustive()
    }
}
