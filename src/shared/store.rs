//! Where a fleet's processes share a token.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;

use crate::error::BoxError;

/// The pause between two looks at a store that does not say when something has changed.
const POLL: Duration = Duration::from_millis(200);

/// Where a fleet's processes share a token: small records by name, which are compared and set.
///
/// All that is asked of a store is what a row of `PostgreSQL` with a version column, a key of etcd,
/// a Secret of Kubernetes (`resourceVersion`) and an object with an `ETag` can do.
///
/// A store sees sealed records alone: bytes that it keeps as they are, 256 KiB at most. It never
/// learns a token, and needs no protection of its own against being read. It may forget what it
/// keeps, answer late, twice or not at all: no process ever waits for it longer than the
/// [store timeout](super::Shared::store_timeout).
pub trait TokenStore: Send + Sync + 'static {
    /// The record of that name, and what time it is there.
    ///
    /// # Errors
    ///
    /// Whatever keeps the store from answering. That there is no record is no error.
    fn load(&self, name: &str) -> impl Future<Output = Result<Loaded, StoreError>> + Send;

    /// Replaces the record of that name by another one if its version is still `seen`, in one step
    /// that no other swap can come between.
    ///
    /// # Errors
    ///
    /// Whatever keeps the store from answering. That the record is another one by now is no error.
    fn swap(
        &self,
        name: &str,
        seen: &Version,
        sealed: &[u8],
    ) -> impl Future<Output = Result<Swapped, StoreError>> + Send;

    /// Waits until the record of that name may have another version than `seen`. It may return
    /// early, and must return within seconds.
    ///
    /// By default it waits for 100 to 300 ms, at random.
    fn changed(&self, name: &str, seen: &Version) -> impl Future<Output = ()> + Send {
        let _ = (name, seen);
        tokio::time::sleep(POLL.mul_f64(0.5 + fastrand::f64()))
    }

    /// Whether the store keeps its records whatever happens to it, as a file or a database does
    /// and a cache server does not.
    ///
    /// Where a refresh token is spent by its exchange, a process that finds no record in a store
    /// that may forget does not take that for the start: it waits for some seconds until another
    /// one has put it back.
    fn is_durable(&self) -> bool {
        false
    }
}

/// What a store has under a name.
#[derive(Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// The record; `None`: there is none.
    pub sealed: Option<Vec<u8>>,
    /// The version of the record, or of there being none.
    pub version: Version,
    /// The store's own clock, when it answered. A token's life and a lease are measured by it, and
    /// never by the clock of the process that asks.
    pub now: SystemTime,
}

/// A version of a record: whatever the store tells two of them apart by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version(Option<Arc<[u8]>>);

/// What a swap has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Swapped {
    /// The record is replaced, and this is the new one's version.
    Done(Version),
    /// The record was another one by then.
    Conflict,
}

/// A store that did not do what it was asked.
#[derive(Clone)]
pub struct StoreError {
    cause: Arc<dyn std::error::Error + Send + Sync>,
}

// ===== impl Loaded =====

impl Loaded {
    /// A record.
    #[must_use]
    pub fn record(sealed: Vec<u8>, version: Version, now: SystemTime) -> Self {
        Self { sealed: Some(sealed), version, now }
    }

    /// No record.
    #[must_use]
    pub fn nothing(now: SystemTime) -> Self {
        Self { sealed: None, version: Version::NONE, now }
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("len", &self.sealed.as_ref().map(Vec::len))
            .field("version", &self.version)
            .field("now", &self.now)
            .finish()
    }
}

// ===== impl Version =====

impl Version {
    /// There is no record.
    pub const NONE: Self = Self(None);

    /// The version of a record, as the store has it: a number, a hash, an `ETag`.
    pub fn new(version: impl AsRef<[u8]>) -> Self {
        Self(Some(version.as_ref().into()))
    }

    /// The bytes that it was made of; `None`: there is no record.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        self.0.as_deref()
    }
}

// ===== impl StoreError =====

impl StoreError {
    /// An error with that cause. Its text is shown: it must not contain a password.
    pub fn new(cause: impl Into<BoxError>) -> Self {
        Self { cause: Arc::from(cause.into()) }
    }

    /// The cause, if it is of this type.
    #[must_use]
    pub fn downcast_ref<E: std::error::Error + 'static>(&self) -> Option<&E> {
        self.cause.downcast_ref()
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreError").field(&self.cause).finish()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.source()
    }
}

// ===== Erasure =====

/// A store whose type is forgotten.
pub(super) trait AnyStore: Send + Sync {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Loaded, StoreError>>;
    fn swap<'a>(
        &'a self,
        name: &'a str,
        seen: &'a Version,
        sealed: &'a [u8],
    ) -> BoxFuture<'a, Result<Swapped, StoreError>>;
    fn changed<'a>(&'a self, name: &'a str, seen: &'a Version) -> BoxFuture<'a, ()>;
    fn is_durable(&self) -> bool;
}

impl<T: TokenStore> AnyStore for T {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Loaded, StoreError>> {
        Box::pin(TokenStore::load(self, name))
    }

    fn swap<'a>(
        &'a self,
        name: &'a str,
        seen: &'a Version,
        sealed: &'a [u8],
    ) -> BoxFuture<'a, Result<Swapped, StoreError>> {
        Box::pin(TokenStore::swap(self, name, seen, sealed))
    }

    fn changed<'a>(&'a self, name: &'a str, seen: &'a Version) -> BoxFuture<'a, ()> {
        Box::pin(TokenStore::changed(self, name, seen))
    }

    fn is_durable(&self) -> bool {
        TokenStore::is_durable(self)
    }
}
