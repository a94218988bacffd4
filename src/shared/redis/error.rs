//! Why a Redis store cannot be made, or does not answer.

use std::io;

use crate::secret::SecretError;

/// Why a [`RedisStore`](super::RedisStore) cannot be made, or does not work. In the second case it
/// is the cause of a [`StoreError`](crate::shared::StoreError).
///
/// It never shows a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisStoreError {
    /// The URL is none of a Redis server.
    #[error("the URL of the Redis server {0}: write it like `rediss://redis.example.com:6379/0`")]
    InvalidUrl(&'static str),
    /// There is a password in the URL, where it would be seen.
    #[error(
        "the URL of the Redis server has a password in it: take it out, and give it by `password`"
    )]
    PasswordInUrl,
    /// A password would be readable on its way to that host.
    #[error(
        "the password would go to {0} in clear: use `rediss://`, or `allow_plaintext` if you must"
    )]
    Plaintext(String),
    /// What [`root_certificate`](super::RedisStoreBuilder::root_certificate) got cannot be used, or
    /// the system's own certificates cannot.
    #[error("no certificate to trust: {0}")]
    RootCertificate(String),
    /// The password cannot be read.
    #[error("the password of the Redis server cannot be read: {0}")]
    Password(#[source] SecretError),
    /// The server cannot be reached, or TLS with it fails.
    #[error("the Redis server {0} cannot be reached: {1}")]
    Connect(String, #[source] io::Error),
    /// The server takes neither this user nor this password. The word is the server's.
    #[error(
        "the Redis server does not take the user and password ({0}): see `password`, and the user \
         in the URL"
    )]
    Refused(String),
    /// The server answers with an error, or with what no Redis server answers.
    #[error("the Redis server answers: {0}")]
    Answer(String),
    /// The connection has ended before the answer.
    #[error("the connection to the Redis server has ended: {0}")]
    Lost(String),
    /// The record is on another node.
    #[error(
        "the Redis server is a node of a cluster that does not have this record: give the address \
         of one that has all, or of a proxy ({0})"
    )]
    Moved(String),
}
