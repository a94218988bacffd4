//! Why there is no token, whether the failure may pass by itself, and when to ask again.

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

#[cfg(feature = "keyed")]
use crate::key::{InvalidTokenKey, NoSubject, Unusable};
use crate::origin::Origin;

/// A boxed error, the same type as `tower::BoxError`.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The source or the cache could not provide a token.
///
/// It is cheap to clone: all callers that wait for one fetch get the same error. Its text is that
/// of its cause, after the [name](Self::source_name) of the cache if it has one. Find it in any
/// error that a stack returns with [`find_in`](Self::find_in), and recover its cause with
/// [`downcast_ref`](Self::downcast_ref).
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::TokenError;
///
/// let busy = TokenError::transient("the vault is sealed").with_retry_after(Duration::from_secs(20));
/// assert!(busy.is_transient());
/// assert_eq!(busy.to_string(), "the vault is sealed");
/// assert!(!TokenError::permanent("no such role").is_transient());
/// ```
#[derive(Clone)]
pub struct TokenError {
    cause: Arc<dyn Error + Send + Sync>,
    transient: bool,
    retry_after: Option<Duration>,
    source_name: Option<Arc<str>>,
    key_only: bool,
}

// ===== impl TokenError =====

impl TokenError {
    /// A failure that may pass by itself: the cache tries again soon.
    #[must_use]
    pub fn transient(cause: impl Into<BoxError>) -> Self {
        Self::new(cause.into(), true)
    }

    /// A failure that stays until an operator changes something: the source cools down for longer.
    #[must_use]
    pub fn permanent(cause: impl Into<BoxError>) -> Self {
        Self::new(cause.into(), false)
    }

    /// Adds how long the token service asked its clients to wait (RFC 9110 §10.2.3).
    ///
    /// Any duration is valid. The cache waits for at most five minutes.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// Marks the failure as one of the source itself: a fetch for any other key would fail too.
    ///
    /// This is the default for a transient failure.
    #[must_use]
    pub fn for_all_keys(mut self) -> Self {
        self.key_only = false;
        self
    }

    /// Marks the failure as one of this key, of what the fetch asked for or on whose behalf: it
    /// says nothing about other keys.
    ///
    /// This is the default for a permanent failure.
    #[must_use]
    pub fn for_this_key(mut self) -> Self {
        self.key_only = true;
        self
    }

    /// Whether the failure concerns this key alone, and says nothing about other keys.
    ///
    /// ```
    /// use tower_bearer::TokenError;
    ///
    /// assert!(TokenError::permanent("this user has no account").concerns_key_only());
    /// assert!(!TokenError::permanent("our own key is revoked").for_all_keys().concerns_key_only());
    /// assert!(!TokenError::transient("the vault is sealed").concerns_key_only());
    /// ```
    #[must_use]
    pub fn concerns_key_only(&self) -> bool {
        self.key_only
    }

    /// Whether the failure may pass by itself.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.transient
    }

    /// How long the token service asked its clients to wait. The cache waits for at most five minutes of it:
    /// [`Status::cooldown_left`](crate::Status::cooldown_left) is what it does.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Finds a `TokenError` in another error or in its causes, however many layers have wrapped it.
    ///
    /// A stack seldom returns the layer's own error: tower's `Buffer`, a tonic `Status`, or a chain
    /// of reqwest-middleware and reqwest-retry wraps it, and `downcast_ref` sees only the outermost
    /// error.
    ///
    /// ```
    /// use tower_bearer::{BoxError, TokenError};
    ///
    /// // An outer layer has wrapped the error.
    /// let error: BoxError = std::io::Error::other(TokenError::permanent("no such role")).into();
    /// let token_error = TokenError::find_in(&*error).unwrap();
    /// assert!(!token_error.is_transient());
    /// ```
    ///
    /// A wrapper hides the error if its `source` skips the wrapped error and returns that error's
    /// own source: `anyhow!(error)` and `anyhow::Error::from_boxed` do so with a [`BoxError`]. Wrap
    /// the error before you pass it on: `.map_err(std::io::Error::other).context("calling the
    /// API")?`.
    #[must_use]
    pub fn find_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        find_in(error)
    }

    /// The [name](crate::TokenCache::named) of the cache or the source that has no token. The
    /// error's text begins with it. If the source asks another cache, the name of that cache
    /// follows.
    #[must_use]
    pub fn source_name(&self) -> Option<&str> {
        self.source_name.as_deref()
    }

    /// The cause, if it is of type `E`: for instance a [`CacheError`].
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.cause.downcast_ref()
    }

    /// The cause alone, for events: they name the source in a field.
    #[cfg(feature = "tracing")]
    pub(crate) fn cause(&self) -> &(dyn Error + Send + Sync) {
        &*self.cause
    }

    /// Adds the name of the source.
    pub(crate) fn named(mut self, name: &Arc<str>) -> Self {
        self.source_name = Some(match &self.source_name {
            Some(below) => format!("{name}: {below}").into(),
            None => Arc::clone(name),
        });
        self
    }

    fn new(cause: BoxError, transient: bool) -> Self {
        Self {
            cause: Arc::from(cause),
            transient,
            retry_after: None,
            source_name: None,
            key_only: !transient,
        }
    }
}

impl fmt::Debug for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenError")
            .field("source_name", &self.source_name)
            .field("cause", &self.cause)
            .field("transient", &self.transient)
            .field("retry_after", &self.retry_after)
            .field("key_only", &self.key_only)
            .finish()
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source_name {
            Some(name) => write!(f, "{name}: {}", self.cause),
            None => self.cause.fmt(f),
        }
    }
}

impl Error for TokenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}

// ===== impl CacheError =====

/// Why a [`TokenCache`](crate::TokenCache) has no token, where the reason is not an error of the
/// source.
///
/// It is the cause of a [`TokenError`]: `error.downcast_ref::<CacheError>()`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// No tokio runtime with a timer is running here, so the cache cannot fetch.
    #[error(
        "no tokio runtime with a timer is running here, so no access token can be fetched: call \
         this from inside one (`#[tokio::main]`, or a runtime built with `enable_all()`)"
    )]
    NoRuntime,
    /// One attempt, or all attempts together, took too long.
    #[error(
        "the token source did not answer within {0:?}: if it needs longer, set the policy's \
         `attempt_timeout` and `fetch_timeout`"
    )]
    FetchTimeout(Duration),
    /// The caller waited as long as the policy allows. The flight goes on.
    #[error(
        "no access token within {0:?}: if callers may wait longer, set the policy's `max_wait`"
    )]
    WaitTimeout(Duration),
    /// The source panicked.
    #[error("the token source panicked")]
    SourcePanicked,
    /// The flight's runtime has shut down or is not running.
    #[error("the runtime that was fetching the access token has shut down or is not running")]
    FlightLost,
    /// The origin rejected fresh tokens, or caused too many renewals, so its next renewal must
    /// wait.
    #[error("the API rejects fresh access tokens: its next renewal may start in {0:?}")]
    RenewalBackoff(Duration),
    /// The source answered a renewal with the rejected token.
    #[error("the token source returned the same access token that was rejected")]
    SameToken,
    /// `KeyedTokenCache::forget` or `forget_subject` removed the token.
    #[error("`KeyedTokenCache::forget` removed the access token")]
    Forgotten,
    /// A background renewal came too soon after another one.
    #[error("a renewal in the background ran only just now: the next one has to wait")]
    TooSoon,
    /// The challenge says that a new token would be rejected too (RFC 6750 §3.1).
    #[error("the API says that another access token would not help: {0}")]
    Unsatisfiable(&'static str),
}

impl From<CacheError> for TokenError {
    fn from(error: CacheError) -> Self {
        let retry_after = match error {
            CacheError::RenewalBackoff(wait) => Some(wait),
            _ => None,
        };
        let (transient, key_only) = (error.is_transient(), error.concerns_key_only());
        Self { retry_after, key_only, ..Self::new(error.into(), transient) }
    }
}

impl CacheError {
    fn is_transient(&self) -> bool {
        !matches!(self, Self::NoRuntime | Self::Unsatisfiable(_) | Self::Forgotten)
    }

    /// The other variants concern the source, its runtime or its time limits.
    fn concerns_key_only(&self) -> bool {
        matches!(self, Self::Unsatisfiable(_) | Self::Forgotten)
    }
}

// ===== Refused =====

/// The layer refused a request and did not send it, because no token may go with it.
///
/// Find it in the error of a stack with [`find_in`](Self::find_in).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The request's origin was not named.
    #[error(
        "no access token may go to {0}: name it with `BearerAuthLayer::origin(\"{0}\")`, or let \
         such requests go without a token with `.unlisted_origins(UnlistedOrigin::SendBare)`"
    )]
    NotNamed(Origin),
    /// The origin was named, but its scheme is `http`: everyone on the network path could read the
    /// token.
    #[error(
        "no access token may go to {0} in plain text: use https, or, if you must, call \
         `BearerAuthLayer::allow_plaintext()`"
    )]
    Plaintext(Origin),
    /// The request's URI does not say where it goes.
    #[error(
        "the request's URI has no http(s) scheme and authority, so the layer cannot tell which \
         access token it needs: give it an absolute URI, or set the origin of such requests with \
         `BearerAuthLayer::assume_origin(\"https://…\")`"
    )]
    NoOrigin,
    /// The layer [requires a subject](crate::BearerAuthLayer::require_subject), and the request's
    /// key has none.
    #[cfg(feature = "keyed")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
    #[error(
        "the layer requires a subject, and the request has none: put a `TokenKey` with \
         `.on_behalf_of(subject)` into its extensions"
    )]
    NoSubject,
    /// The subject of the request's key has expired.
    #[cfg(feature = "keyed")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
    #[error("the token of the user on whose behalf the request acts has expired")]
    SubjectExpired,
    /// The request brings a key, but the layer has one token for all requests.
    #[cfg(feature = "keyed")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
    #[error(
        "the request brings a `TokenKey`, but the layer has one token for all requests: give the \
         layer a `KeyedTokenCache`"
    )]
    UnexpectedKey,
    /// The request's key is invalid.
    #[cfg(feature = "keyed")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
    #[error("the request's token key is invalid: {0}")]
    InvalidKey(#[source] InvalidTokenKey),
}

// ===== Keys =====

#[cfg(feature = "keyed")]
impl From<Unusable> for Refused {
    fn from(why: Unusable) -> Self {
        match why {
            Unusable::Invalid(error) => Self::InvalidKey(error),
            Unusable::SubjectExpired => Self::SubjectExpired,
        }
    }
}

#[cfg(feature = "keyed")]
impl From<Unusable> for TokenError {
    fn from(why: Unusable) -> Self {
        match why {
            Unusable::Invalid(error) => Self::permanent(error),
            Unusable::SubjectExpired => Self::permanent(NoSubject::Expired),
        }
    }
}

// ===== impl Refused =====

impl Refused {
    /// Finds a `Refused` in another error or in its causes, as [`TokenError::find_in`] does.
    #[must_use]
    pub fn find_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        find_in(error)
    }
}

// ===== A chain of causes =====

/// The first error of type `E` in the chain.
pub(crate) fn find_in<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(link) = next {
        if let Some(found) = link.downcast_ref() {
            return Some(found);
        }
        next = hidden(link).or_else(|| link.source());
    }
    None
}

/// The error that a link wraps but skips in its `source`, so that the chain alone does not show it.
fn hidden<'a>(link: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if let Some(error) = link.downcast_ref::<TokenError>() {
        return Some(&*error.cause);
    }
    let inner = link.downcast_ref::<io::Error>()?.get_ref()?;
    Some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_shown_once_and_can_be_had_back() {
        let io = std::io::Error::new(std::io::ErrorKind::TimedOut, "slow");
        let error = TokenError::transient(io).clone();
        assert_eq!(error.to_string(), "slow");
        assert!(error.source().is_none());
        let cause = error.downcast_ref::<std::io::Error>().unwrap();
        assert_eq!(cause.kind(), std::io::ErrorKind::TimedOut);
    }

    #[test]
    fn names_stand_before_the_cause_the_outer_one_first_and_hide_nothing() {
        let io = std::io::Error::new(std::io::ErrorKind::TimedOut, "slow");
        let error = TokenError::transient(io).with_retry_after(Duration::from_secs(7));
        let inner = error.named(&"inner".into());
        assert_eq!(
            (inner.to_string().as_str(), inner.source_name()),
            ("inner: slow", Some("inner"))
        );
        let outer = inner.named(&"outer".into());
        assert_eq!(outer.to_string(), "outer: inner: slow");
        assert_eq!(outer.source_name(), Some("outer: inner"));
        assert!(outer.downcast_ref::<std::io::Error>().is_some());
        assert!(outer.is_transient() && outer.source().is_none());
        assert_eq!(outer.retry_after(), Some(Duration::from_secs(7)));
    }

    #[test]
    fn the_chain_goes_on_below_the_cause() {
        #[derive(Debug, thiserror::Error)]
        #[error("above")]
        struct Above(#[source] std::io::Error);

        let error = TokenError::transient(Above(std::io::Error::other("below")));
        assert_eq!(error.to_string(), "above");
        assert_eq!(error.source().expect("the cause has one").to_string(), "below");
    }

    #[test]
    fn a_renewal_backoff_says_how_long_it_takes_and_no_other_cause_does() {
        let backoff = TokenError::from(CacheError::RenewalBackoff(Duration::from_secs(7)));
        assert_eq!(backoff.retry_after(), Some(Duration::from_secs(7)));
        assert!(backoff.is_transient());
        let late = TokenError::from(CacheError::WaitTimeout(Duration::from_secs(7)));
        assert_eq!(late.retry_after(), None);
    }
}
