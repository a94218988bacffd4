//! A token that is known beforehand and never changes.

use std::task::{Context, Poll};

use http::{HeaderValue, Request, header::AUTHORIZATION};
use tower_bearer_benches::Body;
use tower_http::auth::AddAuthorizationLayer;
use tower_layer::Layer;
use tower_service::Service;

use super::{Auth, Inner, Outer};
use crate::token_service::TokenService;

/// The floor: the least that a service can do that puts a header on a request.
pub(super) struct Floor(HeaderValue);

impl Floor {
    pub(super) async fn new(tokens: &TokenService) -> Self {
        let header = format!("Bearer {}", tokens.issue().await);
        Self(HeaderValue::try_from(header).expect("a token is ASCII"))
    }
}

impl Auth for Floor {
    fn before(&self, inner: impl Inner) -> impl Outer {
        Insert { inner, header: self.0.clone() }
    }
}

#[derive(Clone)]
struct Insert<S> {
    inner: S,
    header: HeaderValue,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Insert<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<Body>) -> S::Future {
        request.headers_mut().insert(AUTHORIZATION, self.header.clone());
        self.inner.call(request)
    }
}

/// `AddAuthorizationLayer::bearer`.
pub(super) struct TowerHttp(AddAuthorizationLayer);

impl TowerHttp {
    pub(super) async fn new(tokens: &TokenService) -> Self {
        Self(AddAuthorizationLayer::bearer(&tokens.issue().await))
    }
}

impl Auth for TowerHttp {
    fn before(&self, inner: impl Inner) -> impl Outer {
        self.0.layer(inner)
    }
}
