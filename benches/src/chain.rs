//! A reqwest-middleware chain that never reaches the network.

use std::hint::black_box;

use async_trait::async_trait;
use futures_util::FutureExt;
use http::{Extensions, HeaderValue, header::AUTHORIZATION};
use reqwest::{
    Method, Request, Response, ResponseBuilderExt, Url,
    header::{ACCEPT, USER_AGENT},
};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next, Result};
use tower_bearer::BearerAuthMiddleware;

use crate::{Tokens, URI};

/// A chain, and where its requests go.
pub struct Chain {
    client: ClientWithMiddleware,
    url: Url,
}

impl Chain {
    /// Nothing but the middleware that answers.
    #[must_use]
    pub fn bare() -> Self {
        Self::new(|chain| chain)
    }

    /// The floor: a middleware that inserts the header that ours would insert.
    #[must_use]
    pub fn floor(tokens: &Tokens) -> Self {
        let token = tokens.cache.current().expect("it lives for an hour");
        Self::new(|chain| chain.with(InsertHeader(token.header_value().clone())))
    }

    /// Our middleware.
    pub fn with_auth(auth: impl Into<BearerAuthMiddleware>) -> Self {
        Self::new(|chain| chain.with(auth.into()))
    }

    fn new(auth: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Self {
        let url = Url::parse(URI).expect("that is a URL");
        let chain = auth(ClientBuilder::new(reqwest::Client::new()));
        Self { client: chain.with(Answer(url.clone())).build(), url }
    }

    /// One request through the chain.
    pub fn walk(&self) {
        black_box(self.send());
    }

    /// Checks that the chain puts the cache's token on a request.
    pub fn check(&self, tokens: &Tokens) {
        let token = tokens.cache.current().expect("it lives for an hour");
        let sent = self.send();
        let sent = sent.extensions().get::<Sent>().expect("it tells what was sent");
        assert_eq!(sent.0.as_ref(), Some(token.header_value()));
    }

    fn send(&self) -> Response {
        let mut request = Request::new(Method::GET, self.url.clone());
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("tower-bearer-benches/1"));
        headers.insert("x-request-id", HeaderValue::from_static("5f0c9a1e-6f57-4d3c-9b8e"));
        let response = self.client.execute(black_box(request)).now_or_never();
        response.expect("the token is there").expect("the chain answers")
    }
}

/// What a request carried.
#[derive(Clone)]
struct Sent(Option<HeaderValue>);

/// Answers at once, below all others.
struct Answer(Url);

#[async_trait]
impl Middleware for Answer {
    async fn handle(&self, request: Request, _: &mut Extensions, _: Next<'_>) -> Result<Response> {
        let sent = Sent(request.headers().get(AUTHORIZATION).cloned());
        let response = http::Response::builder().url(self.0.clone()).extension(sent).body("");
        Ok(response.expect("that is a response").into())
    }
}

struct InsertHeader(HeaderValue);

#[async_trait]
impl Middleware for InsertHeader {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        request.headers_mut().insert(AUTHORIZATION, self.0.clone());
        next.run(request, extensions).await
    }
}
