//! Where tokens come from.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

#[cfg(feature = "keyed")]
use crate::key::TokenKey;
use crate::{challenge::Challenge, error::TokenError, observe::Label, token::AccessToken};

/// Fetches an access token from wherever tokens come from.
///
/// A source is slow, may fail, and remembers nothing: the [`TokenCache`](crate::TokenCache)
/// above it keeps the token, makes many askers share one fetch, and tries again. So a source
/// makes one attempt and says by [`TokenError::transient`] or [`TokenError::permanent`] how
/// it went. It is `Send + Sync + 'static` because fetches run on tasks of their own.
///
/// To choose a source while the program runs, make a [`TokenCache`](crate::TokenCache) of
/// whichever it is: a cache has one type for all.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{AccessToken, TokenCache, TokenError, TokenRequest, from_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), TokenError> {
/// let source = from_fn(|request: TokenRequest| async move {
///     // Ask a vault, a metadata server, …
///     let secret = format!("token-for-{:?}", request.reason());
///     let token = AccessToken::new(secret).map_err(TokenError::permanent)?;
///     Ok(token.with_lifetime(Duration::from_secs(600)))
/// });
/// let cache = TokenCache::new(source);
/// assert_eq!(cache.get().await?.secret(), "token-for-First");
/// # Ok(())
/// # }
/// ```
///
/// # Cancellation
///
/// The cache drops the future if it takes longer than
/// [`attempt_timeout`](crate::RefreshPolicyBuilder::attempt_timeout). It does not drop it when a
/// caller goes away.
pub trait TokenSource: Send + Sync + 'static {
    /// Fetches a token, once.
    ///
    /// # Errors
    ///
    /// Why there is no token. The cache decides when to ask again.
    fn fetch(
        &self,
        request: TokenRequest,
    ) -> impl Future<Output = Result<AccessToken, TokenError>> + Send;

    /// Whether a token from this source can satisfy a challenge that a new token would usually
    /// not satisfy: `insufficient_scope`, `insufficient_user_authentication`,
    /// `invalid_request`, or `DPoP`. The challenge is then part of the [`TokenRequest`].
    fn can_satisfy(&self, challenge: &Challenge) -> bool {
        let _ = challenge;
        false
    }

    /// The name of this source in events, metrics, errors and the [`Status`](crate::Status) of a
    /// cache that is not [named](crate::TokenCache::named) itself. It is asked for once, and is
    /// no secret.
    fn name(&self) -> Option<&str> {
        None
    }

    /// How long one fetch may take, if this source knows better than the
    /// [policy](crate::RefreshPolicyBuilder::attempt_timeout): some services are slow.
    fn attempt_timeout(&self) -> Option<Duration> {
        None
    }

    /// Whether something that the source is configured with has changed since its last
    /// permanent failure, so that trying again makes sense before the cooldown is over. The
    /// cache asks once a second at most.
    fn recovered(&self) -> impl Future<Output = bool> + Send {
        std::future::ready(false)
    }

    /// Whether any number of processes may fetch at once, each with what it was configured with.
    /// It is not so where a fetch spends something that the next one needs, as the exchange of a
    /// refresh token does where the service rotates them.
    fn is_repeatable(&self) -> bool {
        true
    }
}

impl<T: TokenSource> TokenSource for Arc<T> {
    fn fetch(
        &self,
        request: TokenRequest,
    ) -> impl Future<Output = Result<AccessToken, TokenError>> + Send {
        T::fetch(self, request)
    }

    fn can_satisfy(&self, challenge: &Challenge) -> bool {
        T::can_satisfy(self, challenge)
    }

    fn name(&self) -> Option<&str> {
        T::name(self)
    }

    fn attempt_timeout(&self) -> Option<Duration> {
        T::attempt_timeout(self)
    }

    fn recovered(&self) -> impl Future<Output = bool> + Send {
        T::recovered(self)
    }

    fn is_repeatable(&self) -> bool {
        T::is_repeatable(self)
    }
}

// ===== impl TokenRequest =====

/// Why a token is wanted, and what is known from before.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    reason: Reason,
    previous: Option<AccessToken>,
    rejected: Option<AccessToken>,
    challenge: Option<Challenge>,
    label: Label,
    #[cfg(feature = "keyed")]
    key: Option<TokenKey>,
}

/// Why a token is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// There has been none yet.
    First,
    /// The current one is near its end.
    Due,
    /// The last one is past its end.
    Expired,
    /// An API rejected the current one.
    Rejected,
    /// The program wants another one: [`TokenCache::refresh`](crate::TokenCache::refresh).
    Requested,
}

impl Reason {
    /// Its name in events and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Due => "due",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Requested => "requested",
        }
    }
}

impl TokenRequest {
    /// A request for that reason and nothing else.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            previous: None,
            rejected: None,
            challenge: None,
            label: Label::default(),
            #[cfg(feature = "keyed")]
            key: None,
        }
    }

    /// Adds the last token that was fetched.
    #[must_use]
    pub fn with_previous(mut self, previous: AccessToken) -> Self {
        self.previous = Some(previous);
        self
    }

    /// Adds the token that was rejected.
    #[must_use]
    pub fn with_rejected(mut self, rejected: AccessToken) -> Self {
        self.rejected = Some(rejected);
        self
    }

    /// Adds the challenge that the rejection came with.
    #[must_use]
    pub fn with_challenge(mut self, challenge: Challenge) -> Self {
        self.challenge = Some(challenge);
        self
    }

    /// Adds what the token is for.
    #[cfg(feature = "keyed")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
    #[must_use]
    pub fn with_key(mut self, key: TokenKey) -> Self {
        self.key = Some(key);
        self
    }

    /// What the cache asks for.
    pub(crate) fn from_parts(
        reason: Reason,
        previous: Option<AccessToken>,
        rejected: Option<AccessToken>,
        challenge: Option<Challenge>,
    ) -> Self {
        Self { previous, rejected, challenge, ..Self::new(reason) }
    }

    /// Says whose tokens the request is about.
    pub(crate) fn labelled(self, label: Label) -> Self {
        Self { label, ..self }
    }

    #[cfg(feature = "oauth2")]
    pub(crate) fn label(&self) -> &Label {
        &self.label
    }

    /// The [name](crate::TokenCache::named) of the cache that wants it.
    #[must_use]
    pub fn source_name(&self) -> Option<&str> {
        self.label.name()
    }

    /// Why a token is wanted.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The last token that was fetched, whatever has become of it: it carries the refresh
    /// token and the scope.
    #[must_use]
    pub fn previous(&self) -> Option<&AccessToken> {
        self.previous.as_ref()
    }

    /// The token that was rejected: another one is wanted.
    #[must_use]
    pub fn rejected(&self) -> Option<&AccessToken> {
        self.rejected.as_ref()
    }

    /// What the token is for, and on whose behalf, if a
    /// [`KeyedTokenCache`](crate::KeyedTokenCache) asks. A source that cannot heed it must fail:
    /// another key's token is worse than none.
    #[cfg(feature = "keyed")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
    #[must_use]
    pub fn key(&self) -> Option<&TokenKey> {
        self.key.as_ref()
    }

    /// The challenge that the rejection came with. Nothing that it names may be fetched: it
    /// comes from the API, not from the token service.
    #[must_use]
    pub fn challenge(&self) -> Option<&Challenge> {
        self.challenge.as_ref()
    }
}

// ===== impl FromFn =====

/// Makes a source of an async function.
pub fn from_fn<F, Fut>(fetch: F) -> FromFn<F>
where
    F: Fn(TokenRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<AccessToken, TokenError>> + Send,
{
    FromFn(fetch)
}

/// A source made by [`from_fn`].
#[derive(Clone)]
pub struct FromFn<F>(F);

impl<F, Fut> TokenSource for FromFn<F>
where
    F: Fn(TokenRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<AccessToken, TokenError>> + Send,
{
    fn fetch(
        &self,
        request: TokenRequest,
    ) -> impl Future<Output = Result<AccessToken, TokenError>> + Send {
        (self.0)(request)
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").finish_non_exhaustive()
    }
}

// ===== Erasure =====

/// A source whose type is forgotten. A fetch happens once an hour: its box is free.
pub(crate) trait AnySource: Send + Sync {
    fn fetch(&self, request: TokenRequest) -> BoxFuture<'_, Result<AccessToken, TokenError>>;
    fn can_satisfy(&self, challenge: &Challenge) -> bool;
    fn recovered(&self) -> BoxFuture<'_, bool>;
}

impl<T: TokenSource> AnySource for T {
    fn fetch(&self, request: TokenRequest) -> BoxFuture<'_, Result<AccessToken, TokenError>> {
        Box::pin(TokenSource::fetch(self, request))
    }

    fn can_satisfy(&self, challenge: &Challenge) -> bool {
        TokenSource::can_satisfy(self, challenge)
    }

    fn recovered(&self) -> BoxFuture<'_, bool> {
        Box::pin(TokenSource::recovered(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that has something of its own to say on everything.
    struct Particular;

    impl TokenSource for Particular {
        async fn fetch(&self, _: TokenRequest) -> Result<AccessToken, TokenError> {
            AccessToken::new("a").map_err(TokenError::permanent)
        }

        fn can_satisfy(&self, challenge: &Challenge) -> bool {
            challenge.is("dpop")
        }

        fn name(&self) -> Option<&str> {
            Some("particular")
        }

        fn attempt_timeout(&self) -> Option<Duration> {
            Some(Duration::from_secs(99))
        }

        async fn recovered(&self) -> bool {
            true
        }

        fn is_repeatable(&self) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn a_shared_source_says_what_the_source_says() {
        let shared = Arc::new(Particular);
        assert_eq!(TokenSource::name(&shared), Some("particular"));
        assert_eq!(TokenSource::attempt_timeout(&shared), Some(Duration::from_secs(99)));
        assert!(TokenSource::can_satisfy(&shared, &Challenge::new("DPoP")));
        assert!(!TokenSource::can_satisfy(&shared, &Challenge::new("Bearer")));
        assert!(TokenSource::recovered(&shared).await);
        assert!(!TokenSource::is_repeatable(&shared));
    }
}
