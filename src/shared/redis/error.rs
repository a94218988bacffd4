//! Errors of a Redis store.

use std::io;

use crate::secret::SecretError;

/// An error of building or using a [`RedisStore`](super::RedisStore). In use, it is the cause of a
/// [`StoreError`](crate::shared::StoreError).
///
/// It never shows a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisStoreError {
    /// The URL does not name a Redis server.
    #[error("the URL of the Redis server {0}: write it like `rediss://redis.example.com:6379/0`")]
    InvalidUrl(&'static str),
    /// The URL contains a password, which logs and process lists would show.
    #[error(
        "the URL of the Redis server contains a password: remove it, and set it with `password`"
    )]
    PasswordInUrl,
    /// The password would go to that host unencrypted.
    #[error(
        "the password would go to {0} in cleartext: use `rediss://`, or `allow_plaintext` if you \
         must"
    )]
    Plaintext(String),
    /// The certificates given to
    /// [`root_certificate`](super::RedisStoreBuilder::root_certificate), or those of the system,
    /// cannot be used.
    #[error("no root certificate can be used: {0}")]
    RootCertificate(String),
    /// The password cannot be read.
    #[error("the password of the Redis server cannot be read: {0}")]
    Password(#[source] SecretError),
    /// The server cannot be reached, or TLS with it fails.
    #[error("the Redis server {0} cannot be reached: {1}")]
    Connect(String, #[source] io::Error),
    /// The server rejects the user or the password. The value is the server's error code, if it is
    /// a known one.
    #[error(
        "the Redis server rejects the user or password ({0}): check `password`, and the user in \
         the URL"
    )]
    Refused(String),
    /// The server answers with an error, or not as a Redis server does.
    #[error("the Redis server answers with an error: {0}")]
    Answer(String),
    /// The connection ended before the answer.
    #[error("the connection to the Redis server ended before the answer: {0}")]
    Lost(String),
    /// The record is on another node of a cluster.
    #[error(
        "the Redis server is a cluster node that does not have this record ({0}): use the URL of a \
         server that has all records, or of a proxy"
    )]
    Moved(String),
}
