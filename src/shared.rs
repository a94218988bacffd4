//! One token for a fleet: many processes, one fetch per refresh.
//!
//! [`Shared`] is a [`TokenSource`] that wraps another one. It keeps the token in a [`TokenStore`]
//! that all processes of the fleet use, sealed with a key that they share. When several processes
//! want a new token, one of them fetches it and the others wait for the result.
//!
//! ```
//! # #[cfg(unix)]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_bearer::BoxError> {
//! use tower_bearer::{
//!     AccessToken, Secret, TokenCache, TokenError, from_fn,
//!     shared::{FileStore, Seal, Shared},
//! };
//!
//! # let directory = tempfile::tempdir()?;
//! # let key_file = directory.path().join("seal");
//! # std::fs::write(&key_file, "00".repeat(32))?;
//! # let directory = directory.path().join("tokens");
//! // Most of the time: an `oauth2::TokenEndpoint`.
//! let source = from_fn(|_| async { AccessToken::new("abc").map_err(TokenError::permanent) });
//!
//! let shared = Shared::new(source, FileStore::new(directory))
//!     .name("orders")
//!     .seal(Seal::new(Secret::file(key_file)));
//! assert_eq!(TokenCache::new(shared).get().await?.secret(), "abc");
//! # Ok(())
//! # }
//! # #[cfg(not(unix))]
//! # fn main() {}
//! ```
//!
//! The [`TokenCache`](crate::TokenCache) or the layer above calls `Shared` only when it would
//! fetch. A process that holds a usable token serves requests without waiting for the store.
//!
//! # When the store misbehaves
//!
//! | the store | what happens |
//! | --- | --- |
//! | does not answer within [`store_timeout`](Shared::store_timeout) | each process fetches for itself, up to a second later; if a fetch spends the refresh token, a process uses its current token until it expires, and then fails with a transient error |
//! | has lost the record | a process that holds a newer record puts it back within seconds; if there is no such process, one process fetches |
//! | has garbage: a record that is truncated, too large, of another format, or sealed for another name or with another key | the process logs this once, and treats the record as missing |
//! | answers twice, or late | nothing: each write names the version that it replaces |
//!
//! # The protocol
//!
//! A store has one record per name. A record has a *generation* and the token of that generation.
//! It may have a *lease*, held by the process that fetches the next generation, and a *pause*,
//! during which no process fetches. It also says whether the refresh token is *in doubt*. Each
//! write is a compare-and-set. All times are read from the store's clock.
//!
//! ```text
//!                      ask: take the lease                   success: stored
//!  no record, or no   ─────────────────────▶ leased ──────────────────────▶ the next generation
//!  usable token                              │ │  ▲        (also by a former holder, if the
//!     ▲  ▲                                   │ │  │         generation is still the same)
//!     │  └── pause ends ── paused ◀─ failure ┘ │  │ ask: the next process takes the lease;
//!     │                                        │  │ the refresh token is in doubt
//!     │                         the lease ends ▼  │
//!     │                                      abandoned
//!     │ settling ends
//!  settling ◀── the store was emptied, and a fetch spends the refresh token
//! ```
//!
//! | the record has | a process that wants a token | who may change the record |
//! | --- | --- | --- |
//! | a usable token: neither rejected, nor due for refresh, nor about to expire | takes it | nobody |
//! | a running lease | waits for the next generation, unless it holds the lease: then it fetches | the holder: to the next generation, or to a pause |
//! | a lease that has ended | takes the lease; if a fetch spends the refresh token, it first waits three more seconds, as the holder may have lost the store | the first process that asks; the former holder, with a success |
//! | a pause | fails with a transient error | the first process that asks after the pause |
//! | none of these | takes the lease | the first process that asks |
//! | no record, or a generation below the one that this process holds | puts its own record back, or takes the lease; if a fetch spends the refresh token and the store may lose records, *settles*: writes a lease without a holder, and waits for it to end | the same, and any process that holds a newer record |
//!
//! - *The leader fetches and stores on a task of its own.* No caller's timeout stops it.
//! - *The lease outlives the attempt*: two thirds of the [lease](Shared::lease) are for the fetch.
//! - *The leader keeps its lease*: if a fetch spends the refresh token, the leader checks every few
//!   seconds that the store still has the lease, and writes it again if the store was emptied.
//! - *A late success wins* over the lease of a successor that started from the same generation. If
//!   the record has a later generation, the leader drops its result. *A late failure changes
//!   nothing.*
//! - *On a refusal* (`invalid_grant`) the leader reads the record again. If another process has
//!   stored a token meanwhile, that token is the answer. A refusal never deletes anything.
//! - *A process that cannot tell whether it got the lease* gives it back, and does not fetch.
//! - *A refresh token is in doubt* when a lease ends and its holder has not given it back: the
//!   holder may have sent the refresh token. One more process tries it. If the service refuses it,
//!   or that lease ends in the same way, the result is [`SharedError::RefreshTokenLost`]. From then
//!   on the source fetches with its configured credentials, so that a new grant repairs the fleet.
//! - *A rotated refresh token is stored before its access token is used*: the leader hands out the
//!   new token once the store has the record, and retries for as long as its runtime lives.
//! - *A fleet renews a rejected token at most once in five seconds.* This limit is per record,
//!   whichever origin rejects the token. The cache above has limits per origin.
//! - *A failure is shared*: no process fetches for a second after it (five seconds, if it was
//!   permanent; up to a minute, if the service asked for that).
//!
//! # What it does not protect against
//!
//! An attacker with the seal's key and access to the store can read and forge tokens. An attacker
//! who can only write to the store can do neither, but can restore an older record of the same name
//! or delete the record, and so make a process send a spent refresh token. If a process is
//! suspended between the check of its lease and the exchange, and resumes after the lease has
//! ended, it sends the refresh token that its successor has already sent: make the lease longer
//! than any such pause.

mod asking;
mod error;
#[cfg(unix)]
mod file;
#[cfg(any(test, fuzzing))]
mod fuzzing;
mod guard;
#[cfg(feature = "keyed")]
mod key;
mod leading;
mod member;
#[cfg(any(test, feature = "testing"))]
mod memory;
mod names;
mod protocol;
mod record;
#[cfg(feature = "redis")]
mod redis;
mod seal;
mod store;
mod time;

use std::{fmt, sync::Arc, time::Duration};

use self::{
    member::{Member, Settings},
    store::AnyStore,
};
use crate::{
    challenge::Challenge,
    error::TokenError,
    source::{TokenRequest, TokenSource},
    token::AccessToken,
};

#[cfg(unix)]
#[cfg_attr(docsrs, doc(cfg(unix)))]
pub use self::file::{FileStore, FileStoreError};
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use self::fuzzing::any_stored;
#[cfg(any(test, feature = "testing"))]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub use self::memory::MemoryStore;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::{RedisStore, RedisStoreBuilder, RedisStoreError};
pub use self::{
    error::SharedError,
    seal::{Seal, SealError},
    store::{Loaded, StoreError, Swapped, TokenStore, Version},
};

/// The default lease, unless the source needs a longer one.
const LEASE: Duration = Duration::from_secs(30);
const MIN_LEASE: Duration = Duration::from_secs(1);
const MAX_LEASE: Duration = Duration::from_secs(3600);
const STORE_TIMEOUT: Duration = Duration::from_millis(250);
const MIN_STORE_TIMEOUT: Duration = Duration::from_millis(1);
const MAX_STORE_TIMEOUT: Duration = Duration::from_secs(60);
/// The default name of a record, if the source has none.
const NAME: &str = "token";

/// A source whose token is shared by a fleet of processes.
///
/// Make one with [`Shared::new`], followed by [`seal`](Unsealed::seal). The [module](self)
/// describes the protocol.
///
/// It needs a tokio runtime, as the [`TokenCache`](crate::TokenCache) does. It returns the errors
/// of the source, and errors that hold a [`SharedError`].
///
/// # Keys
///
/// Each `TokenKey` has a record of its own. The record's name is a digest of the key, made with the
/// seal's key, and reveals neither the key nor its subject. When you rotate the seal's key, the
/// fleet starts new records.
///
/// A source with a rotating refresh token cannot be shared by keys: all keys would need the same
/// refresh token, but each record exchanges its own. A request with a key then fails with
/// [`SharedError::KeyedRotation`], and nothing is sent. Share such a source without keys, or give
/// each login a [name](Unsealed::name) of its own.
///
/// # Rotating refresh tokens
///
/// If each exchange of a refresh token returns the next one, two processes must never exchange the
/// same one. A source [declares this itself](TokenSource::is_repeatable), or you declare it with
/// [`rotating`](Self::rotating). A process that cannot reach the store then does not fetch. The
/// store keeps the refresh token too, so that it survives a restart of all processes.
pub struct Shared<S> {
    member: Arc<Member<S>>,
}

/// A [`Shared`] source without a seal. Call [`seal`](Self::seal) to complete it.
pub struct Unsealed<S> {
    source: S,
    store: Arc<dyn AnyStore>,
    name: Option<Arc<str>>,
}

// ===== impl Unsealed =====

impl<S: TokenSource> Unsealed<S> {
    /// Sets the name of the record. Use the same name in all processes of the fleet, and a
    /// different one for each source. The default is the [source's](TokenSource::name), or `token`.
    ///
    /// The name is not secret: it appears in the store and in logs.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into().into());
        self
    }

    /// Sets the seal, which encrypts and authenticates records: access to the store alone is not
    /// enough to read or plant a token.
    #[must_use]
    pub fn seal(self, seal: Seal) -> Shared<S> {
        let Self { source, store, name } = self;
        let lease = source.attempt_timeout().map_or(LEASE, |it| it.saturating_mul(3).max(LEASE));
        Shared::of(Settings {
            name: name.unwrap_or_else(|| source.name().unwrap_or(NAME).into()),
            rotates: !source.is_repeatable(),
            lease: lease.min(MAX_LEASE),
            store_timeout: STORE_TIMEOUT,
            source: Arc::new(source),
            store,
            seal,
        })
    }
}

impl<S> fmt::Debug for Unsealed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsealed").field("name", &self.name).finish_non_exhaustive()
    }
}

// ===== impl Shared =====

impl<S: TokenSource> Shared<S> {
    /// Shares the token of `source` among all processes with the same store, name and seal. Call
    /// [`seal`](Unsealed::seal) on the result.
    ///
    /// `source` is any source that a cache accepts. The leader fetches with it. Configure it
    /// alike in all processes.
    #[expect(clippy::new_ret_no_self, reason = "nothing is shared without a seal")]
    pub fn new(source: S, store: impl TokenStore) -> Unsealed<S> {
        Unsealed { source, store: Arc::new(store), name: None }
    }

    /// Sets how long the fetching process keeps the others from fetching. Two thirds of the lease
    /// are for the fetch, the rest is for storing the result: make two thirds of it longer than
    /// the longest fetch.
    ///
    /// From a second to an hour. The default is 30 s, or three times the source's
    /// [`attempt_timeout`](TokenSource::attempt_timeout) if that is longer.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        let lease = lease.clamp(MIN_LEASE, MAX_LEASE);
        self.with(|settings| settings.lease = lease)
    }

    /// Sets how long to wait for an answer of the store before treating it as unavailable. From a
    /// millisecond to a minute; the default is 250 ms.
    #[must_use]
    pub fn store_timeout(self, timeout: Duration) -> Self {
        let timeout = timeout.clamp(MIN_STORE_TIMEOUT, MAX_STORE_TIMEOUT);
        self.with(|settings| settings.store_timeout = timeout)
    }

    /// Declares that each fetch spends a credential, such as a refresh token that the service
    /// rotates. Call this if the source does not [declare it](TokenSource::is_repeatable) itself.
    #[must_use]
    pub fn rotating(self) -> Self {
        self.with(|settings| settings.rotates = true)
    }
}

impl<S> Shared<S> {
    fn of(settings: Settings<S>) -> Self {
        Self { member: Arc::new(Member::new(settings)) }
    }

    fn with(self, change: impl FnOnce(&mut Settings<S>)) -> Self {
        let mut settings = self.member.settings.clone();
        change(&mut settings);
        Self::of(settings)
    }
}

impl<S: TokenSource> TokenSource for Shared<S> {
    fn fetch(
        &self,
        request: TokenRequest,
    ) -> impl Future<Output = Result<AccessToken, TokenError>> + Send {
        self.member.fetch(request)
    }

    fn can_satisfy(&self, challenge: &Challenge) -> bool {
        self.member.settings.source.can_satisfy(challenge)
    }

    /// Returns the [name](Unsealed::name) of the record.
    fn name(&self) -> Option<&str> {
        Some(&self.member.settings.name)
    }

    /// The source's own timeout, and time for calls to the store before and after the fetch.
    fn attempt_timeout(&self) -> Option<Duration> {
        let settings = &self.member.settings;
        let store = settings.store_timeout.saturating_mul(4);
        settings.source.attempt_timeout().map(|it| it.saturating_add(store))
    }

    fn recovered(&self) -> impl Future<Output = bool> + Send {
        self.member.settings.source.recovered()
    }
}

impl<S> fmt::Debug for Shared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.member.settings;
        f.debug_struct("Shared")
            .field("name", &settings.name)
            .field("seal", &settings.seal)
            .field("lease", &settings.lease)
            .field("store_timeout", &settings.store_timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
