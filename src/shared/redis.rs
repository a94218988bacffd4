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
use tokio::time::{Instant, timeout};

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

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// When nobody drives the task that connects, which ends by itself before.
const UNDRIVEN: Duration = Duration::from_secs(6);
const KEEP: Duration = Duration::from_secs(90 * 24 * 3600);
const MIN_KEEP: Duration = Duration::from_secs(3600);
const MAX_KEEP: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Computes a record's version: its digest, or its length if it is too large for a record and so
/// stays on the server. A value that is not a string is not a record either.
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
/// Loads the record and the time, and extends the record's expiry, unless the server is a read-only
/// replica.
const LOAD: &str = "
local time = redis.call('TIME')
local version, sealed = look(KEYS[1])
local keep = tonumber(ARGV[2])
if version ~= '' and redis.call('PTTL', KEYS[1]) < keep / 2 then
  redis.pcall('PEXPIRE', KEYS[1], keep)
end
return {tonumber(time[1]), tonumber(time[2]), version, sealed}
";
/// Replaces the record if it has that version.
const SWAP: &str = "
local version = look(KEYS[1])
if version ~= ARGV[3] then return false end
redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[2])
return redis.sha1hex(ARGV[4])
";

/// A store in Redis (5 or later) or Valkey, for processes on any number of hosts.
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
/// All clones share one connection. The first use opens it. The store reconnects, and reads the
/// password again, after the connection has ended, after a command has failed, or if the server has
/// not answered for 5 s. It needs a tokio runtime.
///
/// Each operation is one round trip: an atomic script (`EVALSHA`) that reads the server's clock. A
/// process that waits for another one's token polls every 100 to 300 ms. The user needs the
/// commands `EVALSHA`, `SCRIPT LOAD`, `TIME`, `TYPE`, `STRLEN`, `GET`, `SET`, `PTTL` and `PEXPIRE`
/// for the keys `tower-bearer:*`, and `SELECT` if the URL has a database other than 0.
///
/// # Keys
///
/// The record `orders` is the string `tower-bearer:{orders}`. Each script uses one key with one
/// hash tag, so that a cluster's proxy finds its node. A store talks to one server and follows no
/// redirection: a cluster node that does not have the record is an error that says so.
///
/// The server deletes a record 90 days after its last use ([`keep`](RedisStoreBuilder::keep)), so
/// that unused names do not pile up. The store never fetches a value that is too large for a
/// record, and replaces it.
///
/// # Data loss
///
/// If a server restarts without its data, is emptied, or fails over to a replica that lacks the
/// last write, a process that has the newest record puts it back. If *all* processes have ended by
/// then, a rotated refresh token is lost. If a new grant is costly, turn on persistence
/// (`appendonly yes`) and turn off eviction (`noeviction`).
#[derive(Clone)]
pub struct RedisStore {
    inner: Arc<Inner>,
}

/// Builds a [`RedisStore`].
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
    /// How long the server keeps a record, in milliseconds.
    keep: u64,
    attempt: Mutex<Option<Attempt>>,
}

/// A connection made on a task of its own, as the first caller may give up before it is there.
struct Attempt {
    began: Instant,
    connection: Connecting,
}

type Connecting = Shared<BoxFuture<'static, Result<Connection, StoreError>>>;

/// Connecting took too long.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {CONNECT_TIMEOUT:?}")]
struct NoConnection;

// ===== impl RedisStore =====

impl RedisStore {
    /// Makes a store for the server at that URL, without a password. It connects on first use.
    ///
    /// # Errors
    ///
    /// See [`RedisStoreBuilder::build`].
    pub fn new(url: impl Into<String>) -> Result<Self, RedisStoreError> {
        Self::builder(url).build()
    }

    /// Returns a builder for the server at that URL: `rediss://USER@HOST:PORT/DATABASE` with TLS,
    /// `redis://…` without. User, port (default 6379) and database (default 0) are optional.
    /// `valkey` and `valkeys` are synonyms of the two schemes.
    pub fn builder(url: impl Into<String>) -> RedisStoreBuilder {
        RedisStoreBuilder {
            url: url.into(),
            password: None,
            roots: Vec::new(),
            allow_plaintext: false,
            keep: KEEP,
        }
    }

    /// The current or pending connection, or a new one.
    async fn connection(&self) -> Result<Connection, StoreError> {
        let attempt = {
            let mut attempt = self.inner.attempt.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(attempt) = attempt.as_ref().filter(|attempt| attempt.is_of_use()) {
                attempt.connection.clone()
            } else {
                let connection = begin(Arc::clone(&self.inner.recipe));
                attempt.insert(Attempt { began: Instant::now(), connection }).connection.clone()
            }
        };
        attempt.await
    }
}

impl Attempt {
    fn is_of_use(&self) -> bool {
        // It may have ended after its callers had given up.
        match self.connection.clone().now_or_never() {
            Some(made) => made.is_ok_and(|connection| !connection.is_dead()),
            None => self.began.elapsed() < UNDRIVEN,
        }
    }
}

fn begin(recipe: Arc<Recipe>) -> Connecting {
    let connecting = tokio::spawn(async move {
        let connected = timeout(CONNECT_TIMEOUT, recipe.connect()).await;
        connected.map_err(|_| StoreError::new(NoConnection))?.map_err(StoreError::new)
    });
    // The other error: the runtime is shutting down.
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
            .ok_or_else(|| StoreError::new("the server answered with an invalid time"))?;
        if version.is_empty() {
            return Ok(Loaded::nothing(now));
        }
        // The script did not return it: stand in for a record that is too large.
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
    /// Sets the password. Each new connection reads it again. The user comes from the URL, or is
    /// the server's default user.
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Trusts the certificate authorities in that PEM, and no longer those of the system. Call it
    /// again to add more.
    pub fn root_certificate(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.roots.push(pem.as_ref().to_owned());
        self
    }

    /// Permits sending a password in cleartext, to another host over `redis://`.
    ///
    /// Without a password, `redis://` is permitted anyway, as records are sealed. But an attacker
    /// on the path can do what the [module](super) says of one who can write to the store.
    pub fn allow_plaintext(mut self) -> Self {
        self.allow_plaintext = true;
        self
    }

    /// Sets how long the server keeps a record after its last use. As not every use renews the
    /// expiry, a record may go after half that time. From an hour to ten years; the default is 90
    /// days.
    pub fn keep(mut self, keep: Duration) -> Self {
        self.keep = keep.clamp(MIN_KEEP, MAX_KEEP);
        self
    }

    /// Makes the store. It connects on first use.
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

/// Without the URL, as it may contain a password.
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
