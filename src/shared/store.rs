//! The store in which the processes of a fleet share a token.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;

use crate::error::BoxError;

/// The interval for polling a store that does not report changes.
const POLL: Duration = Duration::from_millis(200);

/// A store in which the processes of a fleet share a token: small named records with
/// compare-and-set.
///
/// A `PostgreSQL` row with a version column, an etcd key, a Kubernetes Secret (`resourceVersion`)
/// or an object with an `ETag` provides all that a store needs.
///
/// A store only sees sealed records: opaque bytes, at most 256 KiB. It never sees a token, and
/// needs no read protection of its own. It may lose records, answer late, twice or not at all: no
/// process waits for it longer than the [store timeout](super::Shared::store_timeout).
pub trait TokenStore: Send + Sync + 'static {
    /// Loads the record of that name, and the time by the store's clock.
    ///
    /// # Errors
    ///
    /// If the store cannot answer. A missing record is not an error.
    fn load(&self, name: &str) -> impl Future<Output = Result<Loaded, StoreError>> + Send;

    /// Replaces the record of that name atomically, if its version is still `seen`.
    ///
    /// # Errors
    ///
    /// If the store cannot answer. A record that has changed meanwhile is not an error.
    fn swap(
        &self,
        name: &str,
        seen: &Version,
        sealed: &[u8],
    ) -> impl Future<Output = Result<Swapped, StoreError>> + Send;

    /// Waits until the record of that name may have a version other than `seen`. It may return
    /// early, and must return within seconds.
    ///
    /// The default waits for a random time of 100 to 300 ms.
    fn changed(&self, name: &str, seen: &Version) -> impl Future<Output = ()> + Send {
        let _ = (name, seen);
        tokio::time::sleep(POLL.mul_f64(0.5 + fastrand::f64()))
    }

    /// Returns whether the store keeps its records through a restart, as a file or a database does
    /// and a cache server does not.
    ///
    /// This matters for a rotating refresh token. A process that finds no record in a store that
    /// may lose records does not assume a fresh start: it waits some seconds for another process to
    /// put the record back.
    fn is_durable(&self) -> bool {
        false
    }
}

/// The content of a store under a name.
#[derive(Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// The record, or `None` if there is none.
    pub sealed: Option<Vec<u8>>,
    /// The version of the record, or [`Version::NONE`].
    pub version: Version,
    /// The time by the store's own clock when it answered. It measures tokens' lifetimes and
    /// leases; the clocks of the processes never do.
    pub now: SystemTime,
}

/// A version of a record: any value by which the store distinguishes two of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version(Option<Arc<[u8]>>);

/// The result of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Swapped {
    /// The store has replaced the record. This is the new version.
    Done(Version),
    /// The record had another version: nothing was written.
    Conflict,
}

/// An error of a store.
#[derive(Clone)]
pub struct StoreError {
    cause: Arc<dyn std::error::Error + Send + Sync>,
}

// ===== impl Loaded =====

impl Loaded {
    /// A record with its version and the store's time.
    #[must_use]
    pub fn record(sealed: Vec<u8>, version: Version, now: SystemTime) -> Self {
        Self { sealed: Some(sealed), version, now }
    }

    /// No record, at the store's time.
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
    /// The version of a missing record.
    pub const NONE: Self = Self(None);

    /// A version from the store's own representation: a number, a hash, an `ETag`.
    pub fn new(version: impl AsRef<[u8]>) -> Self {
        Self(Some(version.as_ref().into()))
    }

    /// Returns the bytes of the version, or `None` for a missing record.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        self.0.as_deref()
    }
}

// ===== impl StoreError =====

impl StoreError {
    /// Makes an error with that cause. Logs show its text: it must not contain a password.
    pub fn new(cause: impl Into<BoxError>) -> Self {
        Self { cause: Arc::from(cause.into()) }
    }

    /// Returns the cause, if it is of this type.
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

/// A type-erased store.
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
