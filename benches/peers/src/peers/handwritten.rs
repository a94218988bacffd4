//! What people write: the `oauth2` crate fetches, and a lock holds the token while it is good for
//! another minute. Whoever finds none fetches one, with the lock. A 401 is the caller's.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use oauth2::{
    ClientId, ClientSecret, EndpointNotSet, EndpointSet, HttpResponse, TokenResponse, TokenUrl,
    basic::BasicClient,
};
use tokio::sync::{Mutex, RwLock};
use tower_bearer_benches::Body;
use tower_service::Service;

use super::{Auth, Inner, Outer};
use crate::token_service::TokenService;

/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_secs(60);

type Client =
    BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

struct Endpoint {
    client: Client,
    tokens: TokenService,
}

struct Token {
    secret: String,
    end: Instant,
}

impl Endpoint {
    fn new(tokens: &TokenService) -> Self {
        let url = TokenUrl::new("https://auth.example.com/token".to_owned());
        let client = BasicClient::new(ClientId::new("peers".to_owned()))
            .set_client_secret(ClientSecret::new("secret".to_owned()))
            .set_token_uri(url.expect("that is a URL"));
        Self { client, tokens: tokens.clone() }
    }

    async fn fetch(&self) -> Token {
        let expires_in = MARGIN + self.tokens.fresh;
        let http = |_| {
            let tokens = self.tokens.clone();
            async move {
                let body = tokens.answer(expires_in).await.into_bytes();
                Ok::<_, Infallible>(HttpResponse::new(body))
            }
        };
        let answer = self.client.exchange_client_credentials().request_async(&http).await;
        let answer = answer.expect("the endpoint answers");
        let lifetime = answer.expires_in().expect("it says how long");
        Token { secret: answer.access_token().secret().clone(), end: Instant::now() + lifetime }
    }
}

impl Token {
    fn is_good(&self) -> bool {
        Instant::now() + MARGIN < self.end
    }
}

trait Source: Send + Sync + 'static {
    fn token(&self) -> impl Future<Output = String> + Send;
}

struct MutexSource {
    endpoint: Endpoint,
    token: Mutex<Option<Token>>,
}

impl Source for MutexSource {
    async fn token(&self) -> String {
        let mut token = self.token.lock().await;
        match &*token {
            Some(token) if token.is_good() => token.secret.clone(),
            _ => token.insert(self.endpoint.fetch().await).secret.clone(),
        }
    }
}

struct RwLockSource {
    endpoint: Endpoint,
    token: RwLock<Option<Token>>,
}

impl Source for RwLockSource {
    async fn token(&self) -> String {
        if let Some(token) = &*self.token.read().await
            && token.is_good()
        {
            return token.secret.clone();
        }
        let mut token = self.token.write().await;
        match &*token {
            // Somebody else has fetched it meanwhile.
            Some(token) if token.is_good() => token.secret.clone(),
            _ => token.insert(self.endpoint.fetch().await).secret.clone(),
        }
    }
}

pub(super) struct WithMutex(Arc<MutexSource>);

impl WithMutex {
    pub(super) fn new(tokens: &TokenService) -> Self {
        let (endpoint, token) = (Endpoint::new(tokens), Mutex::default());
        Self(Arc::new(MutexSource { endpoint, token }))
    }
}

impl Auth for WithMutex {
    fn before(&self, inner: impl Inner) -> impl Outer {
        BearerToken { inner, source: self.0.clone() }
    }
}

pub(super) struct WithRwLock(Arc<RwLockSource>);

impl WithRwLock {
    pub(super) fn new(tokens: &TokenService) -> Self {
        let (endpoint, token) = (Endpoint::new(tokens), RwLock::default());
        Self(Arc::new(RwLockSource { endpoint, token }))
    }
}

impl Auth for WithRwLock {
    fn before(&self, inner: impl Inner) -> impl Outer {
        BearerToken { inner, source: self.0.clone() }
    }
}

struct BearerToken<S, T> {
    inner: S,
    source: Arc<T>,
}

impl<S: Clone, T> Clone for BearerToken<S, T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), source: self.source.clone() }
    }
}

impl<S: Inner, T: Source> Service<Request<Body>> for BearerToken<S, T> {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let (mut inner, source) = (self.inner.clone(), self.source.clone());
        Box::pin(async move {
            let header = format!("Bearer {}", source.token().await);
            let mut header = HeaderValue::try_from(header).expect("a token is ASCII");
            header.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, header);
            inner.call(request).await
        })
    }
}
