//! Why there is no token, whether the failure may pass, and when to ask again.

use std::{
    error::Error,
    fmt,
    iter::successors,
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::origin::Origin;

/// Any error, as tower's own middleware has it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A fetch that brought no token.
///
/// It is cheap to clone, so that every waiter of a flight gets it. It displays as its cause
/// does. Recover the cause itself with [`downcast_ref`](Self::downcast_ref), and the `TokenError`
/// from the error that a stack of layers ends with by [`find_in`](Self::find_in).
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
pub struct TokenError {
    cause: Arc<dyn Error + Send + Sync>,
    transient: bool,
    retry_after: Option<Duration>,
    /// Made when it is asked for.
    link: OnceLock<Box<Link>>,
}

/// What a chain of errors has behind a [`TokenError`].
///
/// A wrapper that passes `source` on to what it wraps (thiserror's `transparent`, an `anyhow::Error`
/// that becomes a box, and the other way round) leaves that out of the chain. The error behind it
/// is still there, so this is where [`find_in`] finds the `TokenError`.
struct Link(TokenError);

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

    /// The cause, if it is of this type: for instance a [`CacheError`].
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.cause.downcast_ref()
    }

    /// The `TokenError` in another error, however deep: in a chain of
    /// [sources](Error::source), in a box, in `anyhow::Error`, in `reqwest_middleware::Error`, in
    /// what tower's layers and reqwest-retry make of it.
    ///
    /// ```
    /// use anyhow::{Context, anyhow};
    /// use http::{Request, Response};
    /// use tower::{Service, ServiceExt};
    /// use tower_bearer::{AccessToken, BearerAuthLayer, BoxError, TokenError, from_fn};
    ///
    /// async fn report<S>(stack: S) -> anyhow::Result<u16>
    /// where
    ///     S: Service<Request<String>, Response = Response<String>, Error = BoxError>,
    /// {
    ///     let request = Request::get("https://api.example.com/").body(String::new())?;
    ///     let response = stack.oneshot(request).await.map_err(|error| anyhow!(error));
    ///     Ok(response.context("no report today")?.status().as_u16())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// # let http_client = tower::service_fn(async |_: Request<String>| {
    /// #     Ok::<_, std::convert::Infallible>(Response::new(String::new()))
    /// # });
    /// let source = from_fn(|_| async { Err::<AccessToken, _>(TokenError::permanent("no such role")) });
    /// let stack = tower::ServiceBuilder::new()
    ///     .buffer(8)
    ///     .layer(BearerAuthLayer::new(source).origin("https://api.example.com")?)
    ///     .service(http_client);
    ///
    /// let error = report(stack).await.unwrap_err();
    /// let found = TokenError::find_in(error.as_ref()).expect("there was no token");
    /// assert!(!found.is_transient());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A wrapper that keeps only the text of an error (`anyhow!("{error}")`) keeps no `TokenError`.
    #[must_use]
    pub fn find_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        find_in(error)
    }

    fn new(cause: BoxError, transient: bool) -> Self {
        Self { cause: Arc::from(cause), transient, retry_after: None, link: OnceLock::new() }
    }
}

impl Clone for TokenError {
    fn clone(&self) -> Self {
        let Self { cause, transient, retry_after, link: _ } = self;
        Self {
            cause: Arc::clone(cause),
            transient: *transient,
            retry_after: *retry_after,
            link: OnceLock::new(),
        }
    }
}

#[expect(clippy::missing_fields_in_debug, reason = "the link is this error once more")]
impl fmt::Debug for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenError")
            .field("cause", &self.cause)
            .field("transient", &self.transient)
            .field("retry_after", &self.retry_after)
            .finish()
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl Error for TokenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.link.get_or_init(|| Box::new(Link(self.clone()))).as_ref())
    }
}

// ===== impl Link =====

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NeedsToken")
    }
}

/// Not the text of the error again, which a report of the whole chain would show twice.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an access token was needed")
    }
}

impl Error for Link {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.cause.source()
    }
}

// ===== Finding an error =====

/// The first error of that type in the chain of another.
pub(crate) fn find_in<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    successors(Some(error), |error| next(*error)).find_map(|error| error.downcast_ref())
}

/// What is in an error, if that is more than it calls its source.
fn next<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if let Some(Link(error)) = error.downcast_ref() {
        return Some(error);
    }
    if let Some(TokenError { cause, .. }) = error.downcast_ref() {
        return Some(cause.as_ref());
    }
    error.source()
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
    #[error("the token source did not answer within {0:?}")]
    FetchTimeout(Duration),
    /// The caller waited as long as the policy lets it; the flight goes on.
    #[error("no access token within {0:?}, which is how long the policy lets a caller wait")]
    WaitTimeout(Duration),
    /// The source panicked.
    #[error("the token source panicked")]
    SourcePanicked,
    /// The runtime that the flight was on has shut down, or nobody drives it.
    #[error("the runtime that was fetching the access token is gone or stands still")]
    FlightLost,
    /// The origin has rejected fresh tokens, or has caused too many renewals: its next one has
    /// to wait.
    #[error("the API rejects fresh access tokens: its next renewal may start in {0:?}")]
    RenewalBackoff(Duration),
    /// The source answered a renewal with the token that had been rejected.
    #[error("the token source returned the very access token that was rejected")]
    SameToken,
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
        let transient = !matches!(error, CacheError::NoRuntime | CacheError::Unsatisfiable(_));
        Self { retry_after, ..Self::new(error.into(), transient) }
    }
}

// ===== Refused =====

/// A request was not sent, because no token may go where it goes.
///
/// Recover it from the service's error with `downcast_ref::<Refused>()`.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_shown_once_and_can_be_had_back() {
        let io = std::io::Error::new(std::io::ErrorKind::TimedOut, "slow");
        let error = TokenError::transient(io).clone();
        assert_eq!(error.to_string(), "slow");
        let chain = successors(error.source(), |&error| error.source()).map(ToString::to_string);
        assert_eq!(chain.collect::<Vec<_>>(), ["an access token was needed"]);
        let cause = error.downcast_ref::<std::io::Error>().unwrap();
        assert_eq!(cause.kind(), std::io::ErrorKind::TimedOut);
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
