//! Why there is no token, whether the failure may pass, and when to ask again.

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

#[cfg(feature = "keyed")]
use crate::key::{InvalidTokenKey, NoSubject, Unusable};
use crate::origin::Origin;

/// Any error, as tower's own middleware has it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A token could not be fetched.
///
/// It is cheap to clone, so that every waiter of a flight gets it. It displays as its cause
/// does, after the [name](Self::source_name) of the cache, if that has one. Find it in whatever
/// error a stack gave you with [`find_in`](Self::find_in), and recover the cause itself with
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
    /// A failure that may pass by itself: the fetch is tried again soon.
    #[must_use]
    pub fn transient(cause: impl Into<BoxError>) -> Self {
        Self::new(cause.into(), true)
    }

    /// A failure that stays until an operator changes something: the source cools down for longer.
    #[must_use]
    pub fn permanent(cause: impl Into<BoxError>) -> Self {
        Self::new(cause.into(), false)
    }

    /// Adds how long the token service asked to be left alone (RFC 9110 §10.2.3).
    ///
    /// Any duration may be given; the cache heeds five minutes of it at most, if the
    /// [`RefreshPolicy`](crate::RefreshPolicy) does not say otherwise.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// Says that the failure is about the source itself, so that a fetch for any other key would
    /// fail too.
    ///
    /// A failure that may pass by itself is taken for that unless it says otherwise.
    #[must_use]
    pub fn for_all_keys(mut self) -> Self {
        self.key_only = false;
        self
    }

    /// Says that the failure is about what the token was asked for or on whose behalf, and says
    /// nothing about other keys.
    ///
    /// A permanent failure is taken for that unless it says otherwise.
    #[must_use]
    pub fn for_this_key(mut self) -> Self {
        self.key_only = true;
        self
    }

    /// Whether the failure says nothing about what other keys would get.
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

    /// How long the token service asked to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The error of this type in another error or in its causes, however many layers have wrapped it.
    ///
    /// A stack above the layer seldom hands out the layer's own error: tower's `Buffer`, a tonic
    /// `Status`, or a chain of reqwest-middleware and reqwest-retry stand around it, and a
    /// `downcast_ref` sees the outermost alone.
    ///
    /// ```
    /// use tower_bearer::{BoxError, TokenError};
    ///
    /// // What an outer layer made of it.
    /// let error: BoxError = std::io::Error::other(TokenError::permanent("no such role")).into();
    /// let token_error = TokenError::find_in(&*error).unwrap();
    /// assert!(!token_error.is_transient());
    /// ```
    ///
    /// A wrapper that passes `source` on to the error in it, instead of handing that error out,
    /// hides it: `anyhow!(error)` and `anyhow::Error::from_boxed` do so with a [`BoxError`]. Wrap that
    /// first: `.map_err(std::io::Error::other).context("calling the API")?`.
    #[must_use]
    pub fn find_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        find_in(error)
    }

    /// The [name](crate::TokenCache::named) of the cache or the source that has no token: with it
    /// the error's text begins. If its source asks a cache too, the name of that one follows.
    #[must_use]
    pub fn source_name(&self) -> Option<&str> {
        self.source_name.as_deref()
    }

    /// The cause, if it is of this type: for instance a [`CacheError`].
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.cause.downcast_ref()
    }

    /// The cause itself, for events, which name the source in a field.
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

/// Why a [`TokenCache`](crate::TokenCache) has no token to give, where the source did not say.
///
/// It is the cause of a [`TokenError`]: `error.downcast_ref::<CacheError>()`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// There is no tokio runtime, with its timer, to fetch a token on.
    #[error(
        "no tokio runtime with a timer to fetch an access token on: call this from inside one \
         (`#[tokio::main]`, or a runtime built with `enable_all()`)"
    )]
    NoRuntime,
    /// One attempt, or all of them together, took too long.
    #[error(
        "the token source did not answer within {0:?}: if it needs longer, set the policy's \
         `attempt_timeout` and `fetch_timeout`"
    )]
    FetchTimeout(Duration),
    /// The caller waited as long as the policy lets it; the flight goes on.
    #[error("no access token within {0:?}, which is how long the policy lets a caller wait")]
    WaitTimeout(Duration),
    /// The source panicked.
    #[error("the token source panicked")]
    SourcePanicked,
    /// The runtime of the flight has shut down, or does not run.
    #[error("the runtime that was fetching the access token has shut down or does not run")]
    FlightLost,
    /// The origin has rejected fresh tokens, or has caused too many renewals: its next one has
    /// to wait.
    #[error("the API rejects fresh access tokens: its next renewal may start in {0:?}")]
    RenewalBackoff(Duration),
    /// The source answered a renewal with the token that had been rejected.
    #[error("the token source returned the very access token that was rejected")]
    SameToken,
    /// The token was forgotten, by `KeyedTokenCache::forget` or `forget_subject`.
    #[error("the access token was forgotten by `KeyedTokenCache::forget`")]
    Forgotten,
    /// A renewal in the background came too soon after another one.
    #[error("a renewal has only just been made")]
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

    /// The others are about the source, its runtime, or how long it takes.
    fn concerns_key_only(&self) -> bool {
        matches!(self, Self::Unsatisfiable(_) | Self::Forgotten)
    }
}

// ===== Refused =====

/// A request was not sent, because its destination may not receive a token.
///
/// Find it in the error of a stack with [`find_in`](Self::find_in).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The origin was not named.
    #[error(
        "no access token may go to {0}: name it with `BearerAuthLayer::origin(\"{0}\")`, or let \
         such requests go without a token with `.unlisted_origins(UnlistedOrigin::SendBare)`"
    )]
    NotNamed(Origin),
    /// The origin was named, but everybody on the way could read the token.
    #[error(
        "no access token may go to {0} in plain text: use https, or, if you must, call \
         `BearerAuthLayer::allow_plaintext()`"
    )]
    Plaintext(Origin),
    /// The request's URI does not say where it goes.
    #[error(
        "the request's URI has no http(s) scheme and authority, so it does not say which access \
         token it needs: give it an absolute URI, or say what such a one means with \
         `BearerAuthLayer::assume_origin(\"https://…\")`"
    )]
    NoOrigin,
    /// The layer [requires a subject](crate::BearerAuthLayer::require_subject), and the request's
    /// key has none.
    #[cfg(feature = "keyed")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
    #[error(
        "the request is on behalf of nobody: put a `TokenKey` with `.on_behalf_of(subject)` into \
         its extensions"
    )]
    NoSubject,
    /// The subject of the request's key has expired.
    #[cfg(feature = "keyed")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
    #[error("the token of the user on whose behalf the request is has expired")]
    SubjectExpired,
    /// The request brings a key, and the layer has one token for all.
    #[cfg(feature = "keyed")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
    #[error(
        "the request brings a `TokenKey`, and the layer has one token for all requests: give the \
         layer a `KeyedTokenCache`"
    )]
    UnexpectedKey,
    /// The request's key cannot be used.
    #[cfg(feature = "keyed")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
    #[error("the request's token key cannot be used: {0}")]
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
    /// The refusal in another error or in its causes, as [`TokenError::find_in`].
    #[must_use]
    pub fn find_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        find_in(error)
    }
}

// ===== A chain of causes =====

/// The first error of that type.
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

/// The error in one that passes `source` on to it, so that it is no link of the chain itself.
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
