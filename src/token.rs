//! The access token: the secret that a request carries.

mod jwt;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

pub(crate) const BEARER: &str = "Bearer";
/// What precedes the secret in [`AccessToken::header_value`].
const SCHEME: &str = "Bearer ";

/// A bearer token, ready to send, with what its token service said about it.
///
/// The header value is prepared once, so using the token costs a reference count. All clones share
/// one copy of the secret, which is wiped when the last of them is dropped. `Debug` never shows a
/// secret.
///
/// A token has no clock: its lifetime counts from the moment at which its fetch began, which the
/// [`TokenCache`](crate::TokenCache) knows.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::AccessToken;
///
/// let token = AccessToken::new("mF_9.B5f-4.1JqM")?.with_lifetime(Duration::from_secs(3600));
/// assert_eq!(token.header_value(), "Bearer mF_9.B5f-4.1JqM");
/// assert!(token.header_value().is_sensitive());
/// assert!(!format!("{token:?}").contains("mF_9"));
/// # Ok::<(), tower_bearer::InvalidToken>(())
/// ```
#[derive(Clone)]
pub struct AccessToken {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    header: HeaderValue,
    lifetime: Option<Duration>,
    expiry: Option<SystemTime>,
    refresh_in: Option<Duration>,
    refresh_on: Option<SystemTime>,
    refresh_token: Option<Zeroizing<String>>,
    scope: Option<String>,
}

// ===== impl AccessToken =====

impl AccessToken {
    /// Makes a token from a secret: visible ASCII (`%x21-7E`), without the word `Bearer`.
    ///
    /// The crate wipes a `String` that you pass.
    ///
    /// # Errors
    ///
    /// [`InvalidToken`] if the secret is empty or has a character that no header may carry
    /// (RFC 6750 §2.1, RFC 6749 appendix A.12). The error does not show the secret.
    ///
    /// # Panics
    ///
    /// Never: a secret that passes the check is a header value.
    pub fn new(secret: impl Into<String>) -> Result<Self, InvalidToken> {
        let secret = Zeroizing::new(secret.into());
        InvalidToken::check(&secret)?;

        let header = header(Some(BEARER), &secret);
        Ok(Self {
            inner: Arc::new(Inner {
                header,
                lifetime: None,
                expiry: None,
                refresh_in: None,
                refresh_on: None,
                refresh_token: None,
                scope: None,
            }),
        })
    }

    /// Sets how long the token lives, from the moment at which its fetch began.
    ///
    /// Any duration is valid; the cache clamps it, and takes a second off if it is in whole seconds,
    /// because servers round. It takes precedence over
    /// [`with_expiry`](Self::with_expiry), because it needs no common clock.
    #[must_use]
    pub fn with_lifetime(self, lifetime: Duration) -> Self {
        self.with(|inner| inner.lifetime = Some(lifetime))
    }

    /// Sets when the token expires, in wall-clock time.
    #[must_use]
    pub fn with_expiry(self, expiry: SystemTime) -> Self {
        self.with(|inner| inner.expiry = Some(expiry))
    }

    /// Sets after how long the token is due, from the moment at which its fetch began. From then on
    /// the cache wants a new token, although this one is still valid.
    ///
    /// The cache uses this if it knows how long the token lives, and the token lives for longer. It
    /// adds up to the policy's [`due_jitter`](crate::RefreshPolicyBuilder::due_jitter), so that the
    /// processes of a fleet do not all refresh at once, and refreshes no sooner than after the
    /// [`background_interval`](crate::RefreshPolicyBuilder::background_interval). It takes
    /// precedence over [`with_refresh_on`](Self::with_refresh_on), because it needs no common
    /// clock.
    #[must_use]
    pub fn with_refresh_in(self, refresh_in: Duration) -> Self {
        self.with(|inner| inner.refresh_in = Some(refresh_in))
    }

    /// Sets when the token is due, in wall-clock time. The cache ignores a date that has passed
    /// before the fetch begins.
    #[must_use]
    pub fn with_refresh_on(self, refresh_on: SystemTime) -> Self {
        self.with(|inner| inner.refresh_on = Some(refresh_on))
    }

    /// Adds the refresh token that came with this token (RFC 6749 §1.5).
    ///
    /// The next fetch finds it in [`TokenRequest::previous`](crate::TokenRequest::previous).
    #[must_use]
    pub fn with_refresh_token(self, refresh_token: impl Into<String>) -> Self {
        let refresh_token = Zeroizing::new(refresh_token.into());
        self.with(|inner| inner.refresh_token = Some(refresh_token))
    }

    /// Adds the scope that was granted (RFC 6749 §3.3).
    #[must_use]
    pub fn with_scope(self, scope: impl Into<String>) -> Self {
        let scope = scope.into();
        self.with(|inner| inner.scope = Some(scope))
    }

    /// The secret itself, without `Bearer`.
    ///
    /// # Panics
    ///
    /// Never: the constructor has checked that the secret is visible ASCII.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the constructor has checked that it is visible ASCII")]
    pub fn secret(&self) -> &str {
        let line = self.inner.header.to_str().expect("checked when made");
        &line[SCHEME.len()..]
    }

    /// `Bearer …`, marked as sensitive. Cloning it allocates nothing.
    #[inline]
    #[must_use]
    pub fn header_value(&self) -> &HeaderValue {
        &self.inner.header
    }

    /// The secret after another scheme or none, in memory of its own. Two threads that clone one
    /// header value change one reference count in turn, which costs more than everything else that
    /// a request does here.
    pub(crate) fn header_copy(&self, scheme: Option<&str>) -> HeaderValue {
        header(scheme, self.secret())
    }

    /// How long the token lives, from the moment at which its fetch began, if that is set.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        self.inner.lifetime
    }

    /// When the token expires, in wall-clock time: as set by [`with_expiry`](Self::with_expiry),
    /// else the `exp` of a JWT (RFC 7519 §4.1.4), which is read and not verified.
    #[must_use]
    pub fn expiry(&self) -> Option<SystemTime> {
        self.inner.expiry.or_else(|| jwt::expiry(self.secret()))
    }

    /// After how long the token is due, if that is set.
    #[must_use]
    pub fn refresh_in(&self) -> Option<Duration> {
        self.inner.refresh_in
    }

    /// When the token is due, in wall-clock time, if that is set.
    #[must_use]
    pub fn refresh_on(&self) -> Option<SystemTime> {
        self.inner.refresh_on
    }

    /// The refresh token that came with this token.
    #[must_use]
    pub fn refresh_token(&self) -> Option<&str> {
        self.inner.refresh_token.as_ref().map(|token| token.as_str())
    }

    /// The scope that was granted.
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.inner.scope.as_deref()
    }

    /// Whether both carry the same secret, whatever else differs.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner) || self.inner.header == other.inner.header
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.inner));
        self
    }
}

/// The header value of a checked secret.
#[expect(clippy::expect_used, reason = "visible ASCII is a header value")]
#[expect(clippy::arithmetic_side_effects, reason = "lengths in memory")]
fn header(scheme: Option<&str>, secret: &str) -> HeaderValue {
    // One allocation of the right size: a vector that grew would leave copies behind.
    let size = scheme.map_or(0, |scheme| scheme.len() + 1) + secret.len();
    let mut line = Zeroizing::new(Vec::with_capacity(size));
    if let Some(scheme) = scheme {
        line.extend_from_slice(scheme.as_bytes());
        line.push(b' ');
    }
    line.extend_from_slice(secret.as_bytes());
    let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(line))
        .expect("visible ASCII is a header value");
    header.set_sensitive(true);
    header
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("secret", &Redacted)
            .field("lifetime", &self.inner.lifetime)
            .field("expiry", &self.inner.expiry)
            .field("refresh_in", &self.inner.refresh_in)
            .field("refresh_on", &self.inner.refresh_on)
            .field("refresh_token", &self.inner.refresh_token.as_ref().map(|_| Redacted))
            .field("scope", &self.inner.scope)
            .finish()
    }
}

/// Replaces a secret in `Debug` output.
pub(crate) struct Redacted;

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

// ===== impl InvalidToken =====

/// A text that is not a bearer token. The error says what is wrong and never shows the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidToken {
    /// The text is empty.
    #[error("the access token is empty")]
    Empty,
    /// The text starts with the scheme, which the crate adds itself.
    #[error("the access token starts with `Bearer `: give the token alone")]
    Scheme,
    /// The text has a character that a header may not carry here.
    #[error(
        "the access token has {what} at byte {at}: only visible ASCII may be sent \
         (a line end at its end often comes from a file: trim it)"
    )]
    Character {
        /// What kind of character it is.
        what: &'static str,
        /// Its position, in bytes from 0.
        at: usize,
    },
}

impl InvalidToken {
    fn check(secret: &str) -> Result<(), Self> {
        if secret.is_empty() {
            return Err(Self::Empty);
        }
        let has_scheme =
            secret.get(..SCHEME.len()).is_some_and(|start| start.eq_ignore_ascii_case(SCHEME));
        if has_scheme {
            return Err(Self::Scheme);
        }
        match secret.bytes().enumerate().find(|(_, byte)| !byte.is_ascii_graphic()) {
            None => Ok(()),
            Some((at, byte)) => Err(Self::Character {
                what: match byte {
                    b'\r' | b'\n' => "a line end",
                    b' ' => "a space",
                    0x80.. => "a character beyond ASCII",
                    _ => "a control character",
                },
                at,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_header_may_carry_is_refused_without_being_shown() {
        for (secret, at) in [
            ("hush\r", 4),
            ("hush\nx", 4),
            ("hush\0", 4),
            ("hush hush", 4),
            ("\thush", 0),
            ("hush\u{7f}", 4),
            ("hushé", 4),
        ] {
            let error = AccessToken::new(secret).unwrap_err();
            assert!(matches!(error, InvalidToken::Character { at: found, .. } if found == at));
            assert!(!error.to_string().contains("hush"), "{error}");
        }
        assert_eq!(AccessToken::new("").unwrap_err(), InvalidToken::Empty);
        assert_eq!(AccessToken::new("bearer abc").unwrap_err(), InvalidToken::Scheme);
    }

    #[test]
    fn what_kind_of_character_is_refused_is_said() {
        for (secret, kind) in [
            ("hush\r", "a line end at byte 4"),
            ("hush\n", "a line end at byte 4"),
            ("hu sh", "a space at byte 2"),
            ("hushé", "a character beyond ASCII at byte 4"),
            ("hush\t", "a control character at byte 4"),
            ("hush\u{7f}", "a control character at byte 4"),
        ] {
            let text = AccessToken::new(secret).unwrap_err().to_string();
            assert!(text.starts_with(&format!("the access token has {kind}:")), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = AccessToken::new("hush").unwrap().with_refresh_token("quiet");
        let shown = format!("{token:?} {token:#?} {:?}", token.header_value());
        assert!(!shown.contains("hush") && !shown.contains("quiet"), "{shown}");
    }

    #[test]
    fn a_change_to_a_clone_leaves_the_other_as_it_was() {
        let token = AccessToken::new("hush").unwrap();
        let changed = token.clone().with_lifetime(Duration::from_secs(9)).with_scope("a b");
        assert_eq!((token.lifetime(), token.scope()), (None, None));
        assert_eq!(changed.lifetime(), Some(Duration::from_secs(9)));
        assert_eq!(changed.scope(), Some("a b"));
        assert!(token.is_same(&changed));
    }

    #[test]
    fn when_it_is_due_is_as_it_was_said() {
        let token = AccessToken::new("hush").unwrap();
        assert_eq!((token.refresh_in(), token.refresh_on()), (None, None));
        let (after, date) = (Duration::from_secs(9), SystemTime::UNIX_EPOCH);
        let token = token.with_refresh_in(after).with_refresh_on(date);
        assert_eq!((token.refresh_in(), token.refresh_on()), (Some(after), Some(date)));
    }

    #[test]
    fn an_expiry_that_was_said_wins_over_the_one_inside() {
        let said = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        // {"alg":"none"} . {"exp":9}
        let token = AccessToken::new("eyJhbGciOiJub25lIn0.eyJleHAiOjl9.x").unwrap();
        let inside = SystemTime::UNIX_EPOCH + Duration::from_secs(9);
        assert_eq!(token.expiry(), Some(inside));
        assert_eq!(token.with_expiry(said).expiry(), Some(said));
    }
}
