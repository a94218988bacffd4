//! The user on whose behalf a request acts.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::OnceLock,
    time::SystemTime,
};

use hmac::{Hmac, Mac};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use sha2::Sha256;

use crate::token::{AccessToken, BEARER, InvalidToken};

/// The longest token that a subject may have, in bytes.
pub(super) const MAX_LEN: usize = 16 * 1024;

/// The user's incoming token that a request acts on behalf of.
///
/// Take it from the request that your service handles, put it into the [`TokenKey`](super::TokenKey)
/// of the request that your service makes, and the token source exchanges it for a token of that
/// user.
///
/// **A subject proves nothing.** Validate the incoming token before you act on it, for instance in
/// your server's middleware, or rely on the token service, which validates the token that it gets.
///
/// Two subjects are equal if their tokens are. They are compared by a digest (HMAC-SHA-256) under a
/// random key of this process. The crate shows neither the token nor the digest.
///
/// ```
/// use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
/// use tower_bearer::{NoSubject, Subject, TokenKey};
///
/// let mut headers = HeaderMap::new();
/// assert_eq!(Subject::from_headers(&headers), Err(NoSubject::Missing));
///
/// headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
/// let key = TokenKey::new().on_behalf_of(Subject::from_headers(&headers)?);
/// # drop(key);
/// # Ok::<(), NoSubject>(())
/// ```
#[derive(Clone)]
pub struct Subject {
    id: SubjectId,
    token: AccessToken,
    /// When the token expires, if it says so.
    expiry: Option<SystemTime>,
}

/// The digest of a subject's token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SubjectId([u8; 32]);

// ===== impl Subject =====

impl Subject {
    /// The subject with this token.
    ///
    /// It expires when the token does: after the token's [lifetime](AccessToken::lifetime), counted
    /// from now, or at its [expiry](AccessToken::expiry), which may be the `exp` of a JWT, read and
    /// not verified. A token that was fetched on behalf of the subject is never used after that.
    #[must_use]
    pub fn new(token: AccessToken) -> Self {
        let end = token.lifetime().and_then(|lifetime| SystemTime::now().checked_add(lifetime));
        Self { id: SubjectId::of(&token), expiry: end.or_else(|| token.expiry()), token }
    }

    /// Reads the bearer token of an incoming request (RFC 6750 §2.1).
    ///
    /// # Errors
    ///
    /// [`NoSubject`], unless the request has exactly one `Authorization` header and that carries a
    /// bearer token of at most 16 KiB. The error never shows the header.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, NoSubject> {
        let mut lines = headers.get_all(AUTHORIZATION).iter();
        let line = lines.next().ok_or(NoSubject::Missing)?;
        if lines.next().is_some() {
            return Err(NoSubject::Several);
        }
        Ok(Self::new(bearer(line)?))
    }

    /// The token itself, for a [`TokenSource`](crate::TokenSource) to exchange.
    #[must_use]
    pub fn token(&self) -> &AccessToken {
        &self.token
    }

    /// When the subject's token expires, in wall-clock time; `None` if the token does not say.
    #[must_use]
    pub fn expiry(&self) -> Option<SystemTime> {
        self.expiry
    }

    /// Whether the subject's token has expired at the time `now`.
    pub(crate) fn is_expired(&self, now: SystemTime) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= now)
    }

    pub(super) fn id(&self) -> SubjectId {
        self.id
    }
}

/// The token of a `Bearer` line.
fn bearer(line: &HeaderValue) -> Result<AccessToken, NoSubject> {
    let text = line.as_bytes();
    let end = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
    let (scheme, rest) = text.split_at(end);
    if !scheme.eq_ignore_ascii_case(BEARER.as_bytes()) {
        return Err(NoSubject::NotBearer);
    }
    let token = rest.trim_ascii();
    if token.is_empty() {
        return Err(NoSubject::Empty);
    }
    if token.len() > MAX_LEN {
        return Err(NoSubject::TooLong);
    }
    let token = std::str::from_utf8(token).map_err(|_| NoSubject::NotAscii)?;
    AccessToken::new(token).map_err(NoSubject::Invalid)
}

impl PartialEq for Subject {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Subject {}

impl Hash for Subject {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("expiry", &self.expiry).finish_non_exhaustive()
    }
}

// ===== impl SubjectId =====

impl SubjectId {
    /// The key is random and secret, so no one can search for a token with the same digest.
    fn of(token: &AccessToken) -> Self {
        let mut mac = process_key().clone();
        mac.update(token.secret().as_bytes());
        Self(mac.finalize().into_bytes().into())
    }
}

/// The random key of this process.
#[expect(
    clippy::expect_used,
    reason = "without random bytes no program has TLS either; an HMAC takes any key"
)]
fn process_key() -> &'static Hmac<Sha256> {
    static KEY: OnceLock<Hmac<Sha256>> = OnceLock::new();
    KEY.get_or_init(|| {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the operating system has random bytes, as TLS needs too");
        Hmac::new_from_slice(&key).expect("HMAC takes a key of any length")
    })
}

// ===== impl NoSubject =====

/// Why an incoming request has no subject. The error never shows what the request has instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoSubject {
    /// There is no `Authorization`.
    #[error("the incoming request has no `Authorization` header")]
    Missing,
    /// There is more than one `Authorization`.
    #[error("the incoming request has more than one `Authorization` header")]
    Several,
    /// The scheme is not `Bearer`.
    #[error("the `Authorization` header of the incoming request has no bearer token")]
    NotBearer,
    /// Nothing follows the scheme.
    #[error("the bearer token of the incoming request is empty")]
    Empty,
    /// The token has more than 16 KiB.
    #[error("the bearer token of the incoming request has more than 16 KiB")]
    TooLong,
    /// The token has a character beyond ASCII.
    #[error("the bearer token of the incoming request has a character beyond ASCII")]
    NotAscii,
    /// The subject's token has expired.
    #[error("the token of the user on whose behalf the request acts has expired")]
    Expired,
    /// The token has a character that no token may have.
    #[error("the incoming request has no usable bearer token: {0}")]
    Invalid(#[source] InvalidToken),
}
