//! Where tokens come from.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

#[cfg(feature = "keyed")]
use crate::key::TokenKey;
use crate::{challenge::Challenge, error::TokenError, observe::Label, token::AccessToken};

/// Fetches access tokens.
///
/// A source may be slow, may fail, and remembers nothing: the [`TokenCache`](crate::TokenCache)
/// above it keeps the token, shares one fetch among many callers, and retries. So a source makes
/// one attempt per call, and reports a failure as [`TokenError::transient`] or
/// [`TokenError::permanent`]. It is `Send + Sync + 'static` because fetches run on tasks of their
/// own.
///
/// To choose a source at run time, make a [`TokenCache`](crate::TokenCache) of it: a cache has one
/// type for all sources.
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
    /// [`TokenError`] if there is no token. The cache decides when to try again.
    fn fetch(
        &self,
        request: TokenRequest,
    ) -> impl Future<Output = Result<AccessToken, TokenError>> + Send;

    /// Whether a token from this source can satisfy a challenge that a new token would usually
    /// not satisfy: `insufficient_scope`, `insufficient_user_authentication`,
    /// `invalid_request`, or `DPoP`. The challenge is then part of the [`TokenRequest`].
    ///
    /// The cache asks about every challenge. If you return `true` for one that names a scope without
    /// an error, rejections that name different scopes cause a fetch each.
    fn can_satisfy(&self, challenge: &Challenge) -> bool {
        let _ = challenge;
        false
    }

    /// The name of this source in events, metrics, errors and the [`Status`](crate::Status) of a
    /// cache that is not [named](crate::TokenCache::named) itself. The cache asks once. The name
    /// must not be a secret.
    fn name(&self) -> Option<&str> {
        None
    }

    /// How long one fetch may take, if this source knows better than the
    /// [policy](crate::RefreshPolicyBuilder::attempt_timeout): some services are slow.
    fn attempt_timeout(&self) -> Option<Duration> {
        None
    }

    /// Whether the source's configuration has changed since its last permanent failure, so that a
    /// retry makes sense before the cooldown ends. The cache asks at most once a second.
    fn recovered(&self) -> impl Future<Output = bool> + Send {
        std::future::ready(false)
    }

    /// Whether any number of processes may fetch at once, each with its own copy of the
    /// configuration. Return `false` if a fetch uses up something that the next one needs, as the
    /// exchange of a refresh token does where the service rotates them.
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

/// Why the cache wants a token, and what it knows from before.
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

/// Why the cache wants a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// There has been no token yet.
    First,
    /// The current token is near its end.
    Due,
    /// The last token has expired.
    Expired,
    /// An API rejected the current token.
    Rejected,
    /// The program asked for a new one: [`TokenCache::refresh`](crate::TokenCache::refresh).
    Requested,
}

impl Reason {
    /// The name in events and metrics.
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
    /// A request with this reason and nothing else.
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

    /// Adds the challenge that came with the rejection.
    #[must_use]
    pub fn with_challenge(mut self, challenge: Challenge) -> Self {
        self.challenge = Some(challenge);
        self
    }

    /// Adds the key: what the token is for.
    #[cfg(feature = "keyed")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
    #[must_use]
    pub fn with_key(mut self, key: TokenKey) -> Self {
        self.key = Some(key);
        self
    }

    /// The request of a cache.
    pub(crate) fn from_parts(
        reason: Reason,
        previous: Option<AccessToken>,
        rejected: Option<AccessToken>,
        challenge: Option<Challenge>,
    ) -> Self {
        Self { previous, rejected, challenge, ..Self::new(reason) }
    }

    /// Adds the label of the cache that asks.
    pub(crate) fn labelled(self, label: Label) -> Self {
        Self { label, ..self }
    }

    #[cfg(feature = "oauth2")]
    pub(crate) fn label(&self) -> &Label {
        &self.label
    }

    /// The [name](crate::TokenCache::named) of the cache that asks.
    #[must_use]
    pub fn source_name(&self) -> Option<&str> {
        self.label.name()
    }

    /// Why the cache wants a token.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The last token that was fetched, even if it has expired or was rejected. It carries the
    /// refresh token and the scope.
    #[must_use]
    pub fn previous(&self) -> Option<&AccessToken> {
        self.previous.as_ref()
    }

    /// The token that was rejected. The cache wants a different one.
    #[must_use]
    pub fn rejected(&self) -> Option<&AccessToken> {
        self.rejected.as_ref()
    }

    /// What the token is for, and on whose behalf, if a [`KeyedTokenCache`](crate::KeyedTokenCache)
    /// asks. A source that cannot honour the key must fail: another key's token is worse than none.
    #[cfg(feature = "keyed")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
    #[must_use]
    pub fn key(&self) -> Option<&TokenKey> {
        self.key.as_ref()
    }

    /// The challenge that came with the rejection. Do not fetch anything that it names: it comes
    /// from the API, not from the token service.
    #[must_use]
    pub fn challenge(&self) -> Option<&Challenge> {
        self.challenge.as_ref()
    }
}

// ===== impl FromFn =====

/// Makes a source from an async function.
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

/// A source with its type erased. A fetch is rare, so boxing its future costs nothing that counts.
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

    /// A source that overrides every method.
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
