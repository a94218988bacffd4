//! aliri_tokens: a watcher that has its first token when it is made, and fetches the next ones in the
//! background. A service of ten lines puts what it has on a request.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use aliri_clock::DurationSecs;
use aliri_tokens::{
    AccessToken, IdToken, TokenLifetimeConfig, TokenWatcher, TokenWithLifetime,
    backoff::ErrorBackoffConfig, jitter::NullJitter, sources::AsyncTokenSource,
};
use async_trait::async_trait;
use http::{HeaderValue, Request, header::AUTHORIZATION};
use tower_bearer_benches::Body;
use tower_service::Service;

use super::{Auth, Inner, Outer};
use crate::token_service::TokenService;

struct Source(TokenService);

#[async_trait]
impl AsyncTokenSource for Source {
    type Error = Infallible;

    async fn request_token(&mut self) -> Result<TokenWithLifetime, Infallible> {
        let token = AccessToken::new(self.0.issue().await);
        let fresh = DurationSecs(self.0.fresh.as_secs());
        // Its lifetime is no matter: it is refreshed after this share of it.
        let config = TokenLifetimeConfig::new(0.5, DurationSecs(0));
        Ok(config.create_token(token, None::<IdToken>, fresh + fresh))
    }
}

pub(super) struct Watched(TokenWatcher);

impl Watched {
    pub(super) async fn new(tokens: &TokenService) -> Self {
        let source = Source(tokens.clone());
        let backoff = ErrorBackoffConfig::default();
        let watcher = TokenWatcher::spawn_from_token_source(source, NullJitter, backoff).await;
        Self(watcher.expect("the source does not fail"))
    }
}

impl Auth for Watched {
    fn before(&self, inner: impl Inner) -> impl Outer {
        WithToken { inner, watcher: self.0.clone() }
    }
}

#[derive(Clone)]
struct WithToken<S> {
    inner: S,
    watcher: TokenWatcher,
}

impl<S: Inner> Service<Request<Body>> for WithToken<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<Body>) -> S::Future {
        let header = format!("Bearer {}", self.watcher.token().access_token().as_str());
        let mut header = HeaderValue::try_from(header).expect("a token is ASCII");
        header.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, header);
        self.inner.call(request)
    }
}
