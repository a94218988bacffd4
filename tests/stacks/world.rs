//! The examples' token service and an API on loopback, for what that of `testing` lacks: redirects, TLS,
//! gRPC. And a client.

use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rcgen::Certificate;
use tower_bearer::{BearerAuthLayer, TokenCache};

use crate::loopback::{self, Tokens};

/// No test takes longer.
const BOUND: Duration = Duration::from_secs(30);

pub(crate) async fn bounded<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(BOUND, future).await.expect("it ends within the bound")
}

/// An API, a service for its tokens, and a cache of those.
pub(crate) struct World {
    pub(crate) tokens: Tokens,
    pub(crate) cache: TokenCache,
    pub(crate) api: String,
}

impl World {
    pub(crate) async fn with_api(tokens: Tokens, api: Router) -> Self {
        let source = loopback::endpoint(&token_url(&tokens).await).unwrap();
        let api = loopback::serve(api).await.unwrap();
        Self { tokens, cache: TokenCache::new(source), api }
    }

    /// The API speaks TLS; that is the authority that vouches for it.
    pub(crate) async fn over_tls(tokens: Tokens, api: Router) -> (Self, Certificate) {
        let source = loopback::endpoint(&token_url(&tokens).await).unwrap();
        let (api, authority) = loopback::tls::serve(api).await.unwrap();
        (Self { tokens, cache: TokenCache::new(source), api }, authority)
    }

    /// The layer, for the API's origin.
    pub(crate) fn layer(&self) -> BearerAuthLayer {
        BearerAuthLayer::from_cache(self.cache.clone()).origin(&self.api).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Request<Full<Bytes>> {
        Request::get(format!("{}{path}", self.api)).body(Full::default()).unwrap()
    }
}

pub(crate) async fn token_url(tokens: &Tokens) -> String {
    let origin = loopback::serve(loopback::token_service(tokens)).await.unwrap();
    format!("{origin}/token")
}

pub(crate) fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}
