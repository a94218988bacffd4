//! One token for a fleet: many processes, one fetch for each refresh.
//!
//! [`Shared`] is a [`TokenSource`] around another one. It keeps the token in a [`TokenStore`] that
//! all processes of the fleet use, sealed by a key that they have in common, and of all processes
//! that want a new one it lets one fetch.
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
//! The [`TokenCache`](crate::TokenCache) or the layer above it asks only when it would fetch: no
//! request waits for the store while a usable token is here.
//!
//! # What the store may do
//!
//! | the store | then |
//! | --- | --- |
//! | does not answer within [`store_timeout`](Shared::store_timeout) | a process fetches for itself, up to a second later; of a source that spends its refresh token it uses the token that it has to its end, and then fails as what may pass |
//! | has forgotten the record | whoever holds a newer one puts it back within seconds; only if nobody does, one process fetches |
//! | has garbage: truncated, of another name or key, of another format, too large | it is told once, and taken for nothing |
//! | answers twice, or late | nothing: each write names the version that it replaces |
//!
//! # The protocol
//!
//! A store has a record for each name. The record has a *generation*, and the token of that
//! generation; perhaps a *lease* for the process that fetches the next one; perhaps a *pause* in
//! which nobody fetches; and what is known about its refresh token. Each write is a compare and
//! set. All times are the store's.
//!
//! ```text
//!                        ask: lease                        success: stored
//!  nothing, or a token ─────────────▶ leased by one ──────────────────────▶ the next generation
//!  that nobody wants ◀── pause ends     │   │    ▲       (whoever leads by now, if the
//!     ▲      paused ◀──── failure ──────┘   │    │        generation is still the same)
//!     │                                     │    │ ask: leased by the next one;
//!     │                   the lease ends    ▼    │ the refresh token is in doubt
//!     │                                  abandoned
//!     │ settling ends
//!  settling ◀── ask, or whoever holds a newer record: the store was emptied, something is spent
//! ```
//!
//! | the record has | who wants a token | who may change it |
//! | --- | --- | --- |
//! | a token that is not the rejected one, nor the one that is due, and has life left | takes it | nobody |
//! | a lease that runs | waits for the value; the holder of the lease fetches | its holder: next generation, or pause |
//! | a lease that has ended | takes the lease; where something is spent, gives three seconds more before that: the store may have been away | whoever asks first; its holder, by success |
//! | a pause | fails, as what may pass | whoever asks first after it |
//! | none of these | takes the lease | whoever asks first |
//! | nothing at all, or a generation below the one that the process holds | puts the held one back; or takes the lease; or, where something is spent and the store may forget, *settles*: a lease that nobody holds | the same, and any who holds a newer one |
//!
//! - *The leader fetches and stores on a task of its own.* No caller's timeout ends it.
//! - *The lease outlives the attempt*: of a [lease](Shared::lease) two thirds are for the fetch.
//! - *The leader keeps its lease*: where something is spent, it looks every few seconds whether the
//!   store still has it, and writes it down again if the store was emptied.
//! - *A late success wins* over the lease of a successor that started from the same generation;
//!   over a later generation it is dropped. *A late failure changes nothing.*
//! - *A refusal* (`invalid_grant`) makes the leader read the record again: if another process was
//!   faster, its token is the answer. No refusal ever deletes anything.
//! - *Who does not know whether the store has written down its lease* does not fetch, and gives the
//!   lease back.
//! - *A refresh token is in doubt* when a lease ends that nobody gave back: its holder may have sent
//!   it. It gets one more try. If that is refused, or its lease ends like the first one, the answer
//!   is [`SharedError::RefreshTokenLost`]. From then on the source fetches with what it
//!   was configured with, so that a new grant ends it.
//! - *What is spent is stored before it is used*: the leader of a source that spends its refresh
//!   token hands out the new token when the store has it, and tries for as long as its runtime lives.
//! - *A fleet renews at most once in five seconds* a token that an API rejects anew each time. That
//!   is for each record, whichever origin rejects it: a record knows no origins, and the cache above
//!   it has the limits of each origin.
//! - *A failure is shared*: nobody fetches for a second after it (five, if it was permanent; up to a
//!   minute, if the service asked for that).
//!
//! # What it does not protect against
//!
//! Whoever has the seal's key and the store has the tokens. Whoever can write to the store cannot
//! read a token or plant one, but can put back an older record of the same name, or delete it, and
//! by that spend a refresh token twice. A process that is stopped between the look at its lease and
//! the exchange, and goes on after the lease, sends what its successor has sent: make the lease
//! longer than any such stop.

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

/// The shortest lease that is not set.
const LEASE: Duration = Duration::from_secs(30);
const MIN_LEASE: Duration = Duration::from_secs(1);
const MAX_LEASE: Duration = Duration::from_secs(3600);
const STORE_TIMEOUT: Duration = Duration::from_millis(250);
const MIN_STORE_TIMEOUT: Duration = Duration::from_millis(1);
const MAX_STORE_TIMEOUT: Duration = Duration::from_secs(60);
/// The name of a record, if neither the program nor the source has one.
const NAME: &str = "token";

/// A source whose token a fleet of processes shares.
///
/// [`Shared::new`] makes one, in two steps: without a seal there is none. See the [module](self)
/// for what it does.
///
/// It needs a tokio runtime, as the [`TokenCache`](crate::TokenCache) does. Its errors are those of
/// the source, or hold a [`SharedError`].
///
/// # Keys
///
/// Requests with a `TokenKey` have a record for each key. The name of such a record shows nothing
/// of the key or of its subject: it is a digest under the seal's key, so that a rotated key starts
/// new records.
///
/// A source that spends its refresh token is not shared by keys: all of its keys would need the one
/// refresh token, and each record is exchanged by itself. A request with a key is then the error
/// [`SharedError::KeyedRotation`], and nothing is sent. Share such a source without keys, or each
/// login under a [name](Unsealed::name) of its own.
///
/// # Sources that spend what they have
///
/// Where each exchange of a refresh token brings the next one, two processes must never exchange
/// the same. Such a source [says so](TokenSource::is_repeatable) or is said to by
/// [`rotating`](Self::rotating): then no process fetches while it cannot see the store. The store
/// keeps the refresh token too, so that it outlives all processes.
pub struct Shared<S> {
    member: Arc<Member<S>>,
}

/// A [`Shared`] source that has no seal yet: [`seal`](Self::seal) makes it one.
pub struct Unsealed<S> {
    source: S,
    store: Arc<dyn AnyStore>,
    name: Option<Arc<str>>,
}

// ===== impl Unsealed =====

impl<S: TokenSource> Unsealed<S> {
    /// The name of the record, which is the same in all processes of the fleet and another one for
    /// each source. By default it is the [source's](TokenSource::name), or `token`.
    ///
    /// It is no secret: the store and the log show it.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into().into());
        self
    }

    /// Seals what is stored: without a seal, whoever can write to the store could plant a token.
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
    /// A source whose token is shared by all who use the same store, name and seal. It has no
    /// [seal](Unsealed::seal) yet.
    ///
    /// `source` is anything that the cache takes too, and is what the leader fetches with. All
    /// processes configure it alike.
    #[expect(clippy::new_ret_no_self, reason = "nothing is shared without a seal")]
    pub fn new(source: S, store: impl TokenStore) -> Unsealed<S> {
        Unsealed { source, store: Arc::new(store), name: None }
    }

    /// How long nobody else fetches while one process does. It must be longer than the longest
    /// fetch: two thirds of it are for that, and what is left is for storing.
    ///
    /// From a second to an hour; by default 30 s, or three times what the source needs for an
    /// attempt.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        let lease = lease.clamp(MIN_LEASE, MAX_LEASE);
        self.with(|settings| settings.lease = lease)
    }

    /// How long a store may take for an answer before it counts as away. From a millisecond to a
    /// minute; by default 250 ms.
    #[must_use]
    pub fn store_timeout(self, timeout: Duration) -> Self {
        let timeout = timeout.clamp(MIN_STORE_TIMEOUT, MAX_STORE_TIMEOUT);
        self.with(|settings| settings.store_timeout = timeout)
    }

    /// Says that each fetch spends something that the next one needs, where the source does not say
    /// so itself: the exchange of a refresh token does, where the service rotates them.
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

    /// The [name](Unsealed::name) of the record.
    fn name(&self) -> Option<&str> {
        Some(&self.member.settings.name)
    }

    /// What the source needs, and the store: it is asked before and after.
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
