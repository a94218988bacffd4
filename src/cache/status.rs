//! The status of a cache.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::error::TokenError;

/// The status of a [`TokenCache`](crate::TokenCache) at one moment: for a readiness probe, or for a
/// long-lived stream that must know before its token expires.
///
/// It displays as one line without secrets, and feature `serde` serializes it. So a health endpoint
/// is one line too: `cache.status().to_string()`, or `Json(cache.status())`.
///
/// Times are tokio's, so that tests can pause them.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{AccessToken, TokenCache, TokenError, from_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), TokenError> {
/// let cache = TokenCache::new(from_fn(|_| async {
///     let token = AccessToken::new("abc").map_err(TokenError::permanent)?;
///     Ok(token.with_lifetime(Duration::from_secs(3600)))
/// }));
/// let cache = cache.named("billing");
/// assert_eq!(cache.status().to_string(), "billing: no token");
/// cache.get().await?;
/// let line = cache.status().to_string();
/// assert!(line.starts_with("billing: a token for 358"), "{line}"); // seconds
/// # Ok(())
/// # }
/// ```
///
/// # Serialization
///
/// | key | value |
/// | --- | --- |
/// | `name` | a string, or null |
/// | `has_token`, `suspect`, `fetching` | true or false |
/// | `due_in`, `expires_in`, `cooldown_left` | whole seconds, or null |
/// | `last_error` | a string, or null |
/// | `flights`, `failures`, `attempts` | counts since the start |
#[derive(Clone)]
#[non_exhaustive]
pub struct Status {
    pub(super) name: Option<Arc<str>>,
    /// The moment of the status.
    pub(super) at: Instant,
    pub(super) has_token: bool,
    pub(super) suspect: bool,
    pub(super) due: Option<Instant>,
    pub(super) expiry: Option<Instant>,
    pub(super) fetching: bool,
    pub(super) cooldown_until: Option<Instant>,
    pub(super) last_error: Option<TokenError>,
    pub(super) flights: u64,
    pub(super) failures: u64,
    pub(super) attempts: u64,
}

impl Status {
    /// The [name](crate::TokenCache::named) of the cache.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether there was a usable token: one that had not expired.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.has_token
    }

    /// Whether that token was suspect: rejected somewhere, and not replaced yet.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// When the token is due: from then on the next request refreshes it.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// How long it was until the token was due; zero if it was due.
    #[must_use]
    pub fn due_in(&self) -> Option<Duration> {
        self.until(self.due)
    }

    /// When the token counts as expired: from then on no request uses it. `None` also if that is
    /// unknown.
    #[must_use]
    pub fn expiry(&self) -> Option<Instant> {
        self.expiry
    }

    /// How long it was until the token counted as expired.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        self.until(self.expiry)
    }

    /// Whether a flight was in progress.
    #[must_use]
    pub fn is_fetching(&self) -> bool {
        self.fetching
    }

    /// After a failure: until when the cache fetches nothing.
    #[must_use]
    pub fn cooldown_until(&self) -> Option<Instant> {
        self.cooldown_until
    }

    /// How long it was until the end of the cooldown.
    #[must_use]
    pub fn cooldown_left(&self) -> Option<Duration> {
        self.until(self.cooldown_until)
    }

    /// Why the last flight failed; `None` once one has succeeded.
    #[must_use]
    pub fn last_error(&self) -> Option<&TokenError> {
        self.last_error.as_ref()
    }

    /// How many flights the cache has started so far.
    #[must_use]
    pub fn flights(&self) -> u64 {
        self.flights
    }

    /// How many flights have failed so far.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// How many times the cache has called the source so far: a flight [calls it
    /// again](crate::RefreshPolicyBuilder::attempts) after a transient failure.
    ///
    /// A source may need more than one request for an answer: `oauth2::TokenEndpoint` repeats one
    /// if its secret has changed meanwhile, or if a refresh token may have been lost.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.attempts
    }

    fn until(&self, date: Option<Instant>) -> Option<Duration> {
        Some(date?.saturating_duration_since(self.at))
    }

    /// The whole seconds until the token is due, until it expires, and of the cooldown. Those of
    /// the token are rounded down, that of the cooldown up.
    fn seconds(&self) -> [Option<u64>; 3] {
        let down = |left: Duration| left.as_secs();
        let up = |left: Duration| left.as_secs().saturating_add((left.subsec_nanos() > 0).into());
        [self.due_in().map(down), self.expires_in().map(down), self.cooldown_left().map(up)]
    }

    /// The last error in one line.
    fn error_line(&self) -> Option<String> {
        Some(self.last_error.as_ref()?.to_string().replace(['\r', '\n'], " "))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}: ")?;
        }
        f.write_str(match (self.has_token, self.suspect) {
            (false, _) => "no token",
            (true, false) => "a token",
            (true, true) => "a suspect token",
        })?;
        let [_, expires_in, cooldown] = self.seconds();
        if let Some(seconds) = expires_in {
            write!(f, " for {seconds} s")?;
        }
        if self.fetching {
            f.write_str(", fetching")?;
        }
        if let Some(seconds) = cooldown {
            write!(f, ", cooling down for {seconds} s")?;
        }
        match self.error_line() {
            Some(error) => write!(f, ", last error: {error}"),
            None => Ok(()),
        }
    }
}

#[expect(clippy::missing_fields_in_debug, reason = "how long it is until a date says more than it")]
impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status")
            .field("name", &self.name)
            .field("has_token", &self.has_token)
            .field("suspect", &self.suspect)
            .field("due_in", &self.due_in())
            .field("expires_in", &self.expires_in())
            .field("fetching", &self.fetching)
            .field("cooldown_left", &self.cooldown_left())
            .field("last_error", &self.last_error)
            .field("flights", &self.flights)
            .field("failures", &self.failures)
            .field("attempts", &self.attempts)
            .finish()
    }
}

#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl serde::Serialize for Status {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let [due_in, expires_in, cooldown_left] = self.seconds();
        let mut status = serializer.serialize_struct("Status", 11)?;
        status.serialize_field("name", &self.name())?;
        status.serialize_field("has_token", &self.has_token)?;
        status.serialize_field("suspect", &self.suspect)?;
        status.serialize_field("due_in", &due_in)?;
        status.serialize_field("expires_in", &expires_in)?;
        status.serialize_field("fetching", &self.fetching)?;
        status.serialize_field("cooldown_left", &cooldown_left)?;
        status.serialize_field("last_error", &self.error_line())?;
        status.serialize_field("flights", &self.flights)?;
        status.serialize_field("failures", &self.failures)?;
        status.serialize_field("attempts", &self.attempts)?;
        status.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A status with a token that has 59.9 s left and is due in half of that.
    fn status() -> Status {
        let at = Instant::now();
        Status {
            name: Some("billing".into()),
            at,
            has_token: true,
            suspect: false,
            due: Some(at + Duration::from_millis(29_950)),
            expiry: Some(at + Duration::from_millis(59_900)),
            fetching: false,
            cooldown_until: None,
            last_error: None,
            flights: 3,
            failures: 1,
            attempts: 5,
        }
    }

    /// The worst possible status.
    fn failing() -> Status {
        let status = status();
        Status {
            due: Some(status.at),
            suspect: true,
            fetching: true,
            cooldown_until: Some(status.at + Duration::from_millis(1001)),
            last_error: Some(TokenError::transient("busy:\r\ntry later")),
            ..status
        }
    }

    fn without_token() -> Status {
        Status { name: None, has_token: false, due: None, expiry: None, ..status() }
    }

    #[test]
    fn it_is_one_line() {
        assert_eq!(status().to_string(), "billing: a token for 59 s");
        assert_eq!(
            failing().to_string(),
            "billing: a suspect token for 59 s, fetching, cooling down for 2 s, \
             last error: busy:  try later"
        );
        assert_eq!(without_token().to_string(), "no token");
        let endless = Status { expiry: None, ..status() };
        assert_eq!(endless.to_string(), "billing: a token");
        let cold = Status { cooldown_until: Some(status().at), ..without_token() };
        assert_eq!(cold.to_string(), "no token, cooling down for 0 s");
    }

    #[test]
    fn dates_are_told_as_how_long_it_is_until_then() {
        let millis = |left: Option<Duration>| left.map(|left| left.as_millis());
        assert_eq!(millis(status().due_in()), Some(29_950));
        assert_eq!(millis(status().expires_in()), Some(59_900));
        assert_eq!(status().cooldown_left(), None);
        assert_eq!(failing().due_in(), Some(Duration::ZERO));
        assert_eq!(millis(failing().cooldown_left()), Some(1001));
        assert_eq!((without_token().due_in(), without_token().expires_in()), (None, None));
        let past = Status { at: status().at + Duration::from_secs(3600), ..failing() };
        assert_eq!(past.expires_in(), Some(Duration::ZERO));
    }

    #[test]
    fn debug_shows_no_date_of_the_monotonic_clock() {
        let shown = format!("{:?}", failing());
        assert!(shown.contains("expires_in: Some(59.9s)"), "{shown}");
        assert!(shown.contains("cooldown_left: Some(1.001s)"), "{shown}");
        assert!(!shown.contains("Instant"), "{shown}");
    }

    #[cfg(feature = "serde")]
    #[test]
    fn it_is_serialized_with_whole_seconds_and_the_error_as_a_text() {
        let expected = serde_json::json!({
            "name": "billing", "has_token": true, "suspect": true, "due_in": 0, "expires_in": 59,
            "fetching": true, "cooldown_left": 2, "last_error": "busy:  try later",
            "flights": 3, "failures": 1, "attempts": 5,
        });
        assert_eq!(serde_json::to_value(failing()).unwrap(), expected);
        let shown = serde_json::to_value(without_token()).unwrap();
        for absent in ["name", "due_in", "expires_in", "cooldown_left", "last_error"] {
            assert!(shown[absent].is_null(), "{absent}");
        }
        assert_eq!((&shown["has_token"], &shown["fetching"]), (&false.into(), &false.into()));
        assert_eq!(serde_json::to_value(status()).unwrap()["due_in"], 29);
    }
}
