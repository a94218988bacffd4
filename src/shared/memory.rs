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

/// A store in the memory of one process, so that a test can have a fleet of [`Shared`] sources
/// without any other program. Its clones are one store.
///
/// Its clock is tokio's, so that it stands still and moves on with the test's.
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
    /// A store with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        let inner = Inner {
            began: (SystemTime::now(), Instant::now()),
            records: Mutex::default(),
            changed: Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.records().by_name.clear();
        self.inner.changed.notify_waiters();
    }

    /// Puts anything under that name, whatever is there.
    pub fn put(&self, name: &str, sealed: impl Into<Vec<u8>>) {
        let mut records = self.records();
        records.swaps = records.swaps.wrapping_add(1);
        let version = records.swaps;
        records.by_name.insert(name.to_owned(), (version, sealed.into()));
        self.inner.changed.notify_waiters();
    }

    /// What is stored under that name.
    #[must_use]
    pub fn sealed(&self, name: &str) -> Option<Vec<u8>> {
        self.records().by_name.get(name).map(|(_, sealed)| sealed.clone())
    }

    /// The names under which something is stored, in no order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.records().by_name.keys().cloned().collect()
    }

    /// How often something was stored.
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
                // No more than shows that it is too large.
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

    /// It returns at once when anything is stored, and after a second otherwise.
    async fn changed(&self, name: &str, seen: &Version) {
        // Made before the look, so that it hears of whatever is stored after.
        let changed = self.inner.changed.notified();
        if self.version(name) == *seen {
            // That nothing was stored is no failure.
            let _ = tokio::time::timeout(Duration::from_secs(1), changed).await;
        }
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("swaps", &self.swaps()).finish_non_exhaustive()
    }
}
