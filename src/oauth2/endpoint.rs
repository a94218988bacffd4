//! A token endpoint as a source of tokens.

mod answer;
mod fetch;
mod location;

use std::{fmt, sync::Arc, time::Duration};

pub(super) use self::{fetch::Endpoint, location::Location};
use super::refresh::Grant;
use crate::{
    error::TokenError,
    source::{TokenRequest, TokenSource},
    token::AccessToken,
};

/// Fetches access tokens from the token endpoint of an OAuth 2.0 authorization server.
///
/// Make one with [`TokenEndpoint::builder`], or with one of the [`providers`](super::providers).
/// Its errors hold an [`EndpointError`](super::EndpointError). It needs a tokio runtime, as the
/// [`TokenCache`](crate::TokenCache) does.
pub struct TokenEndpoint {
    endpoint: Arc<Endpoint>,
}

// ===== impl TokenEndpoint =====

impl TokenEndpoint {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint: Arc::new(endpoint) }
    }

    /// Fetches one token, as for a cache. Use it in a source of your own that adds steps before or
    /// after. The future owns a handle to the endpoint, so you can move it into an async block.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer::{TokenSource, from_fn, oauth2::TokenEndpoint};
    ///
    /// /// For an API that drops tokens long before they expire.
    /// fn forgotten_soon(endpoint: TokenEndpoint) -> impl TokenSource {
    ///     from_fn(move |request| {
    ///         let token = endpoint.fetch(request);
    ///         async move { Ok(token.await?.with_lifetime(Duration::from_secs(300))) }
    ///     })
    /// }
    /// # let service = tower::service_fn(async |_: http::Request<http_body_util::Full<bytes::Bytes>>| {
    /// #     let answer = r#"{"access_token":"abc","expires_in":3600}"#.to_owned();
    /// #     Ok::<_, std::convert::Infallible>(http::Response::new(answer))
    /// # });
    /// # let endpoint = TokenEndpoint::builder("https://auth.example.com/token").client_id("a");
    /// # let endpoint = endpoint.client_secret("b").transport(service).build()?;
    /// # let cache = tower_bearer::TokenCache::new(forgotten_soon(endpoint));
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// # let token = runtime.block_on(cache.get())?;
    /// # assert_eq!(token.lifetime(), Some(Duration::from_secs(300)));
    /// # Ok::<(), tower_bearer::BoxError>(())
    /// ```
    ///
    /// A cache also asks an endpoint for its timeout, and during a cooldown for changed secrets.
    /// Your source must forward these calls, or the cache works without them.
    ///
    /// # Errors
    ///
    /// As [`TokenSource::fetch`]: a [`TokenError`] that holds an
    /// [`EndpointError`](super::EndpointError).
    pub fn fetch(
        &self,
        request: TokenRequest,
    ) -> impl Future<Output = Result<AccessToken, TokenError>> + Send + use<> {
        let endpoint = Arc::clone(&self.endpoint);
        async move { endpoint.fetch(request).await }
    }

    /// Returns whether the endpoint's grant exchanges the token of a request's
    /// [`Subject`](crate::Subject). Such an endpoint has a token per user, and none for a request
    /// without a subject. Check it at startup if your configuration chooses the grant.
    ///
    /// ```
    /// # #[cfg(feature = "reqwest")] {
    /// use tower_bearer::oauth2::{TokenEndpoint, TokenExchange};
    ///
    /// let builder = || TokenEndpoint::builder("https://auth.example.com/token").client_id("orders");
    /// assert!(!builder().build()?.takes_subject());
    /// assert!(builder().token_exchange(TokenExchange::new()).build()?.takes_subject());
    /// let fixed = TokenExchange::new().subject_token("of-the-program");
    /// assert!(!builder().token_exchange(fixed).build()?.takes_subject());
    /// # }
    /// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
    /// ```
    #[cfg(feature = "keyed")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
    #[must_use]
    pub fn takes_subject(&self) -> bool {
        self.endpoint.takes_subject()
    }

    /// Waits until the [hook](super::TokenEndpointBuilder::on_new_refresh_token) has finished with
    /// each refresh token received so far.
    ///
    /// Call this in a program that exits right after a fetch, because the hook ends with the
    /// runtime. Share the endpoint with a cache through an [`Arc`]. If the hook hangs, so does
    /// this.
    pub async fn refresh_tokens_stored(&self) {
        if let Grant::Refresh(refresh) = &self.endpoint.grant {
            refresh.hooks_ended().await;
        }
    }
}

impl TokenSource for TokenEndpoint {
    fn fetch(
        &self,
        request: TokenRequest,
    ) -> impl Future<Output = Result<AccessToken, TokenError>> + Send {
        Self::fetch(self, request)
    }

    /// Returns the [name](super::TokenEndpointBuilder::name), if you set one.
    fn name(&self) -> Option<&str> {
        self.endpoint.label.name()
    }

    /// False if an exchange may spend its
    /// [refresh token](super::TokenEndpointBuilder::refresh_token).
    fn is_repeatable(&self) -> bool {
        !matches!(self.endpoint.grant, Grant::Refresh(_))
    }

    /// Time for two exchanges, if each has a [timeout](super::TokenEndpointBuilder::timeout),
    /// because a fetch may need a second one. With [`discover`](TokenEndpoint::discover), time for
    /// the metadata too.
    fn attempt_timeout(&self) -> Option<Duration> {
        self.endpoint.attempt_timeout()
    }

    /// Whether a [`Secret`](crate::Secret) has changed since the last permanent failure. A secret
    /// that differs at each reading does not count.
    async fn recovered(&self) -> bool {
        self.endpoint.recovered().await
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { label, place, location, template, .. } = &*self.endpoint;
        let mut debug = f.debug_struct("TokenEndpoint");
        debug.field("name", label);
        match location {
            Location::Fixed(to) => debug.field("url", place).field("client_auth", &to.client_auth),
            Location::Discovered(_) => debug.field("issuer", place),
        };
        debug
            .field("grant_type", &template.grant_type)
            .field("client_id", &template.client_id)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "keyed"))]
mod tests {
    use http::Response;

    use super::*;
    use crate::{
        key::{Subject, TokenKey},
        oauth2::{changes::Refusal, token_exchange::TokenExchange},
        source::Reason,
    };

    #[tokio::test]
    async fn a_recorded_refusal_does_not_keep_the_subjects_token() {
        let service = tower::service_fn(async |_: http::Request<_>| {
            let answer = Response::builder().status(401);
            answer.body(r#"{"error":"invalid_client"}"#.to_owned())
        });
        let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
            .token_exchange(TokenExchange::new())
            .transport(service)
            .build()
            .unwrap();
        let subject = Subject::new(AccessToken::new("alice-token").unwrap());
        let key = TokenKey::new().scope("a").on_behalf_of(subject);
        endpoint.fetch(TokenRequest::new(Reason::Due).with_key(key)).await.unwrap_err();

        let Refusal { request, sent, .. } = endpoint.endpoint.refusals.last().unwrap();
        let sent = sent.unwrap();
        assert!(request.key().is_none() && sent.redeemed.is_none());
        assert!(sent.overlay.subject_token().is_none());
    }
}
