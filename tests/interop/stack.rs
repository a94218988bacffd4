//! The stack under test: the layer over reqwest; and what each of its calls was like.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_bearer::{
    BearerAuthLayer, BoxError, KeyedTokenCache, SkipAuth, Status, TokenCache, TokenError, TokenKey,
    oauth2::{EndpointError, ReqwestService},
};

use crate::servers::{BOUND, http, setting};

type Body = Full<Bytes>;

/// Calls one URL of the API.
#[derive(Clone)]
pub(crate) struct Caller {
    stack: BoxCloneSyncService<Request<Body>, Response<reqwest::Body>, BoxError>,
    url: String,
}

/// How a call went.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) head: http::response::Parts,
    /// Until the whole answer was read.
    pub(crate) took: Duration,
    /// Until the request was first sent: what the wait for a token is a part of.
    pub(crate) waited: Duration,
    /// How often it was sent: twice, if it was replayed.
    pub(crate) sent: u32,
}

/// What is noted below the layer.
#[derive(Clone)]
struct Trip(Arc<Notes>);

struct Notes {
    began: Instant,
    waited: OnceLock<Duration>,
    sent: AtomicU32,
}

// ===== impl Caller =====

impl Caller {
    /// Calls an API that introspects each token.
    pub(crate) fn new(cache: &TokenCache) -> Self {
        Self::over(http().build().unwrap(), cache, &setting("API"), "/introspected")
    }

    /// Calls that path of that origin over that client.
    pub(crate) fn over(http: reqwest::Client, cache: &TokenCache, api: &str, path: &str) -> Self {
        Self::through(BearerAuthLayer::from_cache(cache.clone()), http, api, path)
    }

    /// Calls that path of the API on behalf of users.
    pub(crate) fn for_users(tokens: &KeyedTokenCache, path: &str) -> Self {
        let layer = BearerAuthLayer::from_cache(tokens.clone()).require_subject();
        Self::through(layer, http().build().unwrap(), &setting("API"), path)
    }

    fn through(layer: BearerAuthLayer, http: reqwest::Client, api: &str, path: &str) -> Self {
        let layer = layer.origin(api).unwrap();
        let stack = ServiceBuilder::new()
            .layer(layer)
            .map_request(Trip::note_sending)
            .service(ReqwestService::new(http));
        Self { stack: BoxCloneSyncService::new(stack), url: format!("{api}{path}") }
    }

    pub(crate) async fn call(&self) -> Result<Call, BoxError> {
        self.send(Request::get(&self.url)).await
    }

    /// A call for that key, of which the API is told whose it is.
    pub(crate) async fn call_for(&self, key: &TokenKey, user: &str) -> Result<Call, BoxError> {
        self.send(Request::get(&self.url).header("x-user", user).extension(key.clone())).await
    }

    /// A call that has to succeed.
    pub(crate) async fn succeed(&self) -> Call {
        let call = self.call().await.unwrap();
        assert_eq!(call.head.status, StatusCode::OK, "{call:?}");
        call
    }

    /// A call that says by itself who makes it, if anybody.
    pub(crate) async fn call_with(&self, authorization: Option<&str>) -> Call {
        let request = Request::get(&self.url);
        let request = match authorization {
            Some(value) => request.header("authorization", value),
            None => request.extension(SkipAuth),
        };
        self.send(request).await.unwrap()
    }

    async fn send(&self, request: http::request::Builder) -> Result<Call, BoxError> {
        let trip = Trip::begin();
        let request = request.extension(trip.clone()).body(Body::default())?;
        let exchange = async {
            let (head, body) = self.stack.clone().oneshot(request).await?.into_parts();
            body.collect().await?;
            Ok::<_, BoxError>(head)
        };
        let head = tokio::time::timeout(BOUND, exchange).await??;
        Ok(trip.end(head))
    }
}

// ===== impl Trip =====

impl Trip {
    fn begin() -> Self {
        let (waited, sent) = (OnceLock::new(), AtomicU32::new(0));
        Self(Arc::new(Notes { began: Instant::now(), waited, sent }))
    }

    fn note_sending(request: Request<Body>) -> Request<Body> {
        let Self(notes) = request.extensions().get().expect("every call is noted");
        notes.waited.get_or_init(|| notes.began.elapsed());
        notes.sent.fetch_add(1, Relaxed);
        request
    }

    fn end(&self, head: http::response::Parts) -> Call {
        let waited = *self.0.waited.get().expect("what is answered was sent");
        Call { head, took: self.0.began.elapsed(), waited, sent: self.0.sent.load(Relaxed) }
    }
}

// ===== What the cache and its source say =====

/// Waits until the cache says of itself what is looked for.
pub(crate) async fn until(cache: &TokenCache, is_so: impl Fn(&Status) -> bool) {
    let mut changes = cache.subscribe();
    let seen = async { while !is_so(&changes.next().await.expect("the cache lives")) {} };
    tokio::time::timeout(BOUND, seen).await.expect("the status becomes what is waited for");
}

/// What the token endpoint said, out of the error of the source.
pub(crate) fn refusal(error: &TokenError) -> &EndpointError {
    error.downcast_ref().expect("it comes from the token endpoint")
}
