//! A store in Redis or Valkey.

mod address;
mod connection;
mod error;
mod stream;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use redis::Script;
use tokio::time::timeout;

use self::{
    address::Address,
    connection::{Connection, Recipe},
};
use super::{
    record::MAX_LEN,
    store::{Loaded, StoreError, Swapped, TokenStore, Version},
};
use crate::secret::Secret;

pub use self::error::RedisStoreError;

/// How long a connection may take until it is one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP: Duration = Duration::from_secs(90 * 24 * 3600);
const MIN_KEEP: Duration = Duration::from_secs(3600);
const MAX_KEEP: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What tells two records apart: a digest, or how large something is that is no record, which stays
/// on the server. Whatever is no text is none either.
const VERSION: &str = "
local function look(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return '', false end
  if kind ~= 'string' then return 'a ' .. kind, '' end
  local length = redis.call('STRLEN', key)
  if length > tonumber(ARGV[1]) then return 'of length ' .. length, false end
  local sealed = redis.call('GET', key)
  return redis.sha1hex(sealed), sealed
end
";
/// What is there, and what time it is. A record that is asked for stays: if it may not be touched
/// (on a replica), then it is not.
const LOAD: &str = "
local time = redis.call('TIME')
local version, sealed = look(KEYS[1])
local keep = tonumber(ARGV[2])
if version ~= '' and redis.call('PTTL', KEYS[1]) < keep / 2 then
  redis.pcall('PEXPIRE', KEYS[1], keep)
end
return {tonumber(time[1]), tonumber(time[2]), version, sealed}
";
/// Replaces what has that version.
const SWAP: &str = "
local version = look(KEYS[1])
if version ~= ARGV[3] then return false end
redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[2])
return redis.sha1hex(ARGV[4])
";

/// A store in Redis (5 or later) or Valkey, for processes of any number of hosts.
///
/// ```no_run
/// use tower_bearer::{
///     AccessToken, Secret, TokenError, from_fn,
///     shared::{RedisStore, Seal, Shared},
/// };
///
/// let store = RedisStore::builder("rediss://fleet@redis.example.com:6379/0")
///     .password(Secret::file("/run/secrets/redis"))
///     .build()?;
/// // Most of the time: an `oauth2::TokenEndpoint`.
/// let source = from_fn(|_| async { AccessToken::new("abc").map_err(TokenError::permanent) });
/// let shared = Shared::new(source, store)
///     .name("orders")
///     .seal(Seal::new(Secret::file("/run/secrets/seal")));
/// # drop(shared);
/// # Ok::<(), tower_bearer::shared::RedisStoreError>(())
/// ```
///
/// Its clones share one connection, which is made when the store is asked first, and anew when it
/// has ended, when an ask has failed, or when the server has owed an answer for 5 s. Then the
/// password is read anew too. It needs a tokio runtime.
///
/// Each ask is one round trip, a script (`EVALSHA`) that no other command comes between; it
/// measures time by the server's clock. Who waits for another process's token looks every 100 to
/// 300 ms. The user needs the commands `EVALSHA`, `SCRIPT LOAD`, `TIME`, `TYPE`, `STRLEN`, `GET`,
/// `SET`, `PTTL` and `PEXPIRE` for the keys `tower-bearer:*`; `SELECT`, if the URL has a database
/// other than 0.
///
/// # Keys
///
/// The record `orders` is the string `tower-bearer:{orders}`. That is one key for each script, and
/// one hash tag: a cluster's proxy finds its node. A store asks one server and follows no
/// redirection; a node of a cluster that does not have the record is an error that says so.
///
/// A record goes 90 days after anybody has last asked for it
/// ([`keep`](RedisStoreBuilder::keep)), so that the names of what is no more do not stay for ever.
/// Something under such a key that is too large for a record is never fetched; it is replaced.
///
/// # What a server may forget
///
/// A server that is restarted without its data, or emptied, gets the newest record back from
/// whichever process has it. So does one whose replica takes over without the last write. If
/// *all* processes are gone by then, a rotated refresh token is gone with the server's data: turn
/// persistence on (`appendonly yes`), and a policy of eviction off (`noeviction`), where a new
/// grant is dear.
#[derive(Clone)]
pub struct RedisStore {
    inner: Arc<Inner>,
}

/// Settings of a [`RedisStore`].
#[derive(Clone)]
#[must_use]
pub struct RedisStoreBuilder {
    url: String,
    password: Option<Secret>,
    roots: Vec<Vec<u8>>,
    allow_plaintext: bool,
    keep: Duration,
}

struct Inner {
    recipe: Arc<Recipe>,
    load: Script,
    swap: Script,
    /// How long a record stays, in milliseconds.
    keep: u64,
    attempt: Mutex<Option<Attempt>>,
}

/// A connection that is made on a task of its own: who asked first may give up sooner.
type Attempt = Shared<BoxFuture<'static, Result<Connection, StoreError>>>;

/// The connection has taken too long.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {CONNECT_TIMEOUT:?}")]
struct NoConnection;

// ===== impl RedisStore =====

impl RedisStore {
    /// A store in the server of that URL, without a password. Nothing happens before it is used.
    ///
    /// # Errors
    ///
    /// See [`RedisStoreBuilder::build`].
    pub fn new(url: impl Into<String>) -> Result<Self, RedisStoreError> {
        Self::builder(url).build()
    }

    /// A store in the server of that URL: `rediss://USER@HOST:PORT/DATABASE` with TLS, `redis://…`
    /// without it. The user may be missing, the port (6379), and the database (0). `valkey` in the
    /// place of `redis` means the same.
    pub fn builder(url: impl Into<String>) -> RedisStoreBuilder {
        RedisStoreBuilder {
            url: url.into(),
            password: None,
            roots: Vec::new(),
            allow_plaintext: false,
            keep: KEEP,
        }
    }

    /// The connection that is there or under way, or a new one.
    async fn connection(&self) -> Result<Connection, StoreError> {
        let attempt = {
            let mut attempt = self.inner.attempt.lock().unwrap_or_else(PoisonError::into_inner);
            match attempt.as_ref().filter(|attempt| is_of_use(attempt)) {
                Some(attempt) => attempt.clone(),
                None => attempt.insert(begin(Arc::clone(&self.inner.recipe))).clone(),
            }
        };
        attempt.await
    }
}

fn is_of_use(attempt: &Attempt) -> bool {
    attempt.peek().is_none_or(|made| made.as_ref().is_ok_and(|connection| !connection.is_dead()))
}

fn begin(recipe: Arc<Recipe>) -> Attempt {
    let connecting = tokio::spawn(async move {
        let connected = timeout(CONNECT_TIMEOUT, recipe.connect()).await;
        connected.map_err(|_| StoreError::new(NoConnection))?.map_err(StoreError::new)
    });
    // The other error: the runtime shuts down.
    connecting.map(|ended| ended.map_err(StoreError::new)?).boxed().shared()
}

fn key(name: &str) -> String {
    format!("tower-bearer:{{{name}}}")
}

impl TokenStore for RedisStore {
    async fn load(&self, name: &str) -> Result<Loaded, StoreError> {
        let connection = self.connection().await?;
        let mut script = self.inner.load.key(key(name));
        script.arg(MAX_LEN).arg(self.inner.keep);
        let answer: (u64, u32, String, Option<Vec<u8>>) =
            connection.invoke(&script).await.map_err(StoreError::new)?;
        let (seconds, microseconds, version, sealed) = answer;
        let since =
            Duration::from_secs(seconds).saturating_add(Duration::from_micros(microseconds.into()));
        let now = SystemTime::UNIX_EPOCH
            .checked_add(since)
            .ok_or_else(|| StoreError::new("the server's clock shows no time"))?;
        if version.is_empty() {
            return Ok(Loaded::nothing(now));
        }
        // What was too large to be fetched is too large here too.
        let sealed = sealed.unwrap_or_else(|| vec![0; MAX_LEN + 1]);
        Ok(Loaded::record(sealed, Version::new(version), now))
    }

    async fn swap(&self, name: &str, seen: &Version, sealed: &[u8]) -> Result<Swapped, StoreError> {
        let connection = self.connection().await?;
        let mut script = self.inner.swap.key(key(name));
        let seen = seen.as_bytes().unwrap_or_default();
        script.arg(MAX_LEN).arg(self.inner.keep).arg(seen).arg(sealed);
        let answer: Option<Vec<u8>> = connection.invoke(&script).await.map_err(StoreError::new)?;
        Ok(answer.map_or(Swapped::Conflict, |version| Swapped::Done(Version::new(version))))
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("address", &self.inner.recipe.address).finish()
    }
}

// ===== impl RedisStoreBuilder =====

impl RedisStoreBuilder {
    /// The password, which each new connection reads anew. The user is in the URL, or the default
    /// one.
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Trusts servers of the authorities in that PEM, and not those that the system trusts. Call it
    /// again for more.
    pub fn root_certificate(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.roots.push(pem.as_ref().to_owned());
        self
    }

    /// Permits a password that anybody on the way can read: to another machine over `redis://`.
    ///
    /// Without a password that is permitted anyway, as what is stored is sealed. But who is on the
    /// way can do what the [module](super) says of those who can write to the store.
    pub fn allow_plaintext(mut self) -> Self {
        self.allow_plaintext = true;
        self
    }

    /// How long the server keeps a record after it was asked for last: half that time at least, as
    /// not each ask says so again. From an hour to ten years; by default 90 days.
    pub fn keep(mut self, keep: Duration) -> Self {
        self.keep = keep.clamp(MIN_KEEP, MAX_KEEP);
        self
    }

    /// Makes the store. Nothing happens before it is used.
    ///
    /// # Errors
    ///
    /// [`RedisStoreError::InvalidUrl`], [`PasswordInUrl`](RedisStoreError::PasswordInUrl),
    /// [`Plaintext`](RedisStoreError::Plaintext) or
    /// [`RootCertificate`](RedisStoreError::RootCertificate); each says what to do.
    pub fn build(self) -> Result<RedisStore, RedisStoreError> {
        let address = Address::parse(&self.url)?;
        let is_readable = !address.is_tls && !address.is_loopback;
        if self.password.is_some() && is_readable && !self.allow_plaintext {
            return Err(RedisStoreError::Plaintext(address.shown()));
        }
        let tls = address.is_tls.then(|| connection::tls(&self.roots)).transpose()?;
        let script = |code: &str| Script::new(&format!("{VERSION}{code}"));
        let inner = Inner {
            recipe: Arc::new(Recipe { address, password: self.password, tls }),
            load: script(LOAD),
            swap: script(SWAP),
            keep: super::time::millis(self.keep),
            attempt: Mutex::default(),
        };
        Ok(RedisStore { inner: Arc::new(inner) })
    }
}

/// Without the URL: there may be a password in it.
impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder").field("keep", &self.keep).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_does_not_go_to_another_machine_in_clear_unless_that_is_permitted() {
        let builder = |url: &str| RedisStore::builder(url).password("hush");
        let error = builder("redis://10.0.0.1").build().unwrap_err();
        let shown = format!("{error} {error:?} {:?}", builder("redis://10.0.0.1"));
        assert!(matches!(error, RedisStoreError::Plaintext(_)), "{shown}");
        assert!(shown.contains("rediss://") && !shown.contains("hush"), "{shown}");
        for (url, is_permitted) in
            [("redis://127.0.0.1", false), ("rediss://10.0.0.1", false), ("redis://10.0.0.1", true)]
        {
            let builder = if is_permitted { builder(url).allow_plaintext() } else { builder(url) };
            let store = builder.build().unwrap();
            assert!(!format!("{store:?}").contains("hush"));
        }
        assert!(RedisStore::new("redis://10.0.0.1").is_ok(), "what is stored is sealed");
    }

    #[test]
    fn a_record_has_one_key_with_one_hash_tag() {
        assert_eq!(key("orders/5e"), "tower-bearer:{orders/5e}");
    }
}
