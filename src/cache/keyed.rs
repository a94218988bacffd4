//! A token cache for each key: a bounded map whose values are ordinary [`TokenCache`]s.
//!
//! ```text
//! an entry    none ──first asked for──▶ never succeeded ──its first token──▶ proven
//!             both ──capacity, idle time──▶ none        not while a caller has it in hand,
//!                                                       and not while its flight is under way
//!             both ──forget──▶ none                     at once; what is in flight is given up
//! the source  ready ──a key's attempt fails for all keys──▶ out of order (see `outage`) ──▶ ready
//! ```
//!
//! The map is locked only for a look-up: no fetch, no callback and no user code runs under its
//! lock. A state's own lock may be taken under it, never the other way round.

mod attached;
mod detached;
mod entry;
mod map;
mod outage;
mod source;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

pub(crate) use self::entry::Entry;
pub use self::map::Evicted;
use self::{
    map::{Evictions, Hook, Map},
    source::{Failing, KeySource, Shared},
};
use super::{InvalidPolicy, TokenCache, policy::RefreshPolicy};
use crate::{
    clock::Moment,
    error::TokenError,
    key::{Subject, TokenKey, Unusable},
    observe::{self, Label},
    source::TokenSource,
    token::AccessToken,
};

const CAPACITY: usize = 10_000;
const IDLE: Duration = Duration::from_secs(3600);

/// Keeps a token for each [`TokenKey`]: for each scope, resource, tenant or user.
///
/// It is a bounded map of [`TokenCache`]s over one source, so each key has its own single flight,
/// refresh, renewal and cooldown. All clones share the one map. Give it to
/// [`BearerAuthLayer::from_cache`](crate::BearerAuthLayer::from_cache), and put the key into the
/// extensions of each request. A request without a key gets the token of [`TokenKey::new`].
///
/// The [source](TokenSource) finds the key in [`TokenRequest::key`](crate::TokenRequest::key).
///
/// ```
/// use tower_bearer::{AccessToken, KeyedTokenCache, TokenError, TokenKey, TokenRequest, from_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_bearer::BoxError> {
/// let source = from_fn(|request: TokenRequest| async move {
///     let scope = request.key().and_then(|key| key.requested_scope()).unwrap_or("none");
///     AccessToken::new(format!("token-for-{scope}")).map_err(TokenError::permanent)
/// });
/// let tokens = KeyedTokenCache::builder(source).capacity(1_000).build()?;
///
/// let read = TokenKey::new().scope("read");
/// assert_eq!(tokens.get(&read).await?.secret(), "token-for-read");
/// assert_eq!(tokens.get(&TokenKey::new().scope("write")).await?.secret(), "token-for-write");
/// assert_eq!(tokens.len(), 2);
///
/// tokens.forget(&read);
/// assert_eq!(tokens.len(), 1);
/// # Ok(())
/// # }
/// ```
///
/// # Eviction
///
/// The map holds [`capacity`](KeyedTokenCacheBuilder::capacity) keys. A new key replaces one that
/// never had a token, or else one that has not been used for long. A key stays while a caller waits
/// for its token or its fetch is in progress. If all keys stay, the map grows beyond its capacity,
/// and shrinks when another key comes after these fetches have ended.
///
/// # Failure
///
/// A failure of the token service itself (no connection, 5xx, 429) holds for all keys: while the
/// source cools down after it, the fetches of other keys get the same error, and one fetch at a
/// time finds out whether the service is back. A failure that one key caused (`invalid_grant`)
/// holds for that key.
///
/// # Subjects
///
/// A key holds no secret. The cache keeps the subject's token beside the entry, because a refresh
/// or a renewal needs it, and wipes it when the entry is dropped or the subject has expired. No
/// token that was fetched on behalf of a subject is used past that subject's
/// [expiry](Subject::expiry). The crate trusts the source: it cannot notice one that answers with
/// another user's token.
#[derive(Clone)]
pub struct KeyedTokenCache {
    keyed: Arc<Keyed>,
}

struct Keyed {
    map: Map,
    policy: Arc<RefreshPolicy>,
    shared: Arc<Shared>,
    label: Label,
}

/// Configures a [`KeyedTokenCache`].
#[must_use]
pub struct KeyedTokenCacheBuilder {
    shared: Arc<Shared>,
    capacity: usize,
    idle: Duration,
    policy: RefreshPolicy,
    hook: Option<Hook>,
    name: Option<Arc<str>>,
}

// ===== impl KeyedTokenCache =====

impl KeyedTokenCache {
    /// A builder with the source that fetches the tokens of all keys.
    pub fn builder(source: impl TokenSource) -> KeyedTokenCacheBuilder {
        let (suggested, name) = (source.attempt_timeout(), source.name().map(Arc::from));
        KeyedTokenCacheBuilder {
            shared: Arc::new(Shared::new(Box::new(source), suggested)),
            capacity: CAPACITY,
            idle: IDLE,
            policy: RefreshPolicy::default(),
            hook: None,
            name,
        }
    }

    /// The cache of one key. If there is none, the map makes one.
    ///
    /// While a handle of it exists, an entry that was evicted comes back with this same cache. A
    /// handle of a [forgotten](Self::forget) key fails with
    /// [`CacheError::Forgotten`](crate::CacheError::Forgotten), and the next request with that key
    /// gets another cache.
    ///
    /// The cache of an [invalid](TokenKey::check) key fails with
    /// [`InvalidTokenKey`](crate::InvalidTokenKey), and the map does not keep it.
    #[must_use]
    pub fn cache(&self, key: &TokenKey) -> TokenCache {
        match self.entry(key) {
            Ok(entry) => entry.cache().clone(),
            Err(unusable) => TokenCache::new(Failing(unusable.into())),
        }
    }

    /// The token of one key, as by [`TokenCache::get`].
    ///
    /// # Errors
    ///
    /// Those of [`TokenCache::get`]; [`InvalidTokenKey`](crate::InvalidTokenKey) if the key is
    /// invalid, and [`NoSubject::Expired`](crate::NoSubject::Expired) if its subject has expired.
    /// Recover them with [`downcast_ref`](TokenError::downcast_ref).
    pub async fn get(&self, key: &TokenKey) -> Result<AccessToken, TokenError> {
        // The map does not evict an entry that a caller holds.
        let entry = self.entry(key)?;
        entry.cache().get().await
    }

    /// Drops the token of one key at once. A fetch in flight for it publishes nothing, and callers
    /// that wait for it get an error. The next request with that key fetches a new token.
    pub fn forget(&self, key: &TokenKey) {
        self.keyed.map.forget(key);
    }

    /// Drops all tokens on behalf of this subject, for instance because the user has logged out.
    pub fn forget_subject(&self, subject: &Subject) {
        self.keyed.map.forget_all(|id| id.is_of(subject));
    }

    /// How many keys have an entry.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keyed.map.len()
    }

    /// Whether no key has an entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry of a key. If there is none, the map makes one.
    pub(crate) fn entry(&self, key: &TokenKey) -> Result<Arc<Entry>, Unusable> {
        key.usable(SystemTime::now())?;
        if let Some(entry) = self.known(key) {
            entry.source().brought_again(key);
            return Ok(entry);
        }
        let Keyed { map, policy, shared, label } = &*self.keyed;
        observe::key_missed(label);
        Ok(map.insert(key, || {
            let source = Arc::new(KeySource::new(Arc::clone(shared), key.clone()));
            let policy = Arc::clone(policy);
            (TokenCache::labelled(Arc::clone(&source), policy, label.clone()), source)
        }))
    }

    /// The entry of a key, if there is one.
    pub(crate) fn known(&self, key: &TokenKey) -> Option<Arc<Entry>> {
        let found = self.keyed.map.get(key, Moment::now());
        if found.is_some() {
            observe::key_found(&self.keyed.label);
        }
        found
    }

    /// Whether both are handles of one map.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.keyed, &other.keyed)
    }
}

impl fmt::Debug for KeyedTokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedTokenCache").field("len", &self.len()).finish_non_exhaustive()
    }
}

// ===== impl KeyedTokenCacheBuilder =====

impl fmt::Debug for KeyedTokenCacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedTokenCacheBuilder")
            .field("capacity", &self.capacity)
            .field("idle", &self.idle)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl KeyedTokenCacheBuilder {
    /// Sets how many keys may have an entry: 1 or more. Default: 10,000.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// Sets after how long without use the map may drop an entry; it must not be zero. Default: one
    /// hour.
    ///
    /// The map drops it when another key comes, or when the entry's own next request finds it.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Names the caches of all keys, as [`TokenCache::named`] does. Default: the name of the source.
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the policy of each key's cache. Default: [`RefreshPolicy::default`].
    pub fn policy(mut self, policy: RefreshPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets a function that the map calls, with the reason, each time that it drops an entry, so
    /// that you can count them. The map calls it without a lock, on the thread that caused the
    /// eviction; it must not block.
    pub fn on_evicted(mut self, hook: impl Fn(Evicted) + Send + Sync + 'static) -> Self {
        self.hook = Some(Arc::new(hook));
        self
    }

    /// Checks every setting and makes the cache. This fetches nothing.
    ///
    /// # Errors
    ///
    /// [`InvalidPolicy`] if the capacity or the idle time is zero.
    pub fn build(self) -> Result<KeyedTokenCache, InvalidPolicy> {
        let Self { shared, capacity, idle, policy, hook, name } = self;
        InvalidPolicy::if_zero(capacity == 0, "capacity")?;
        InvalidPolicy::if_zero(idle.is_zero(), "idle")?;
        let policy = Arc::new(policy.for_source(shared.suggested_timeout()));
        shared.go_by(&policy);
        let label = Label::new(name);
        let evictions = Evictions { hook, label: label.clone(), detached: Arc::default() };
        let map = Map::new(capacity, idle, evictions);
        Ok(KeyedTokenCache { keyed: Arc::new(Keyed { map, policy, shared, label }) })
    }
}

#[cfg(test)]
mod tests;
