//! What the benchmark and the instruction counts measure.
//!
//! A request with a URI, three headers and an empty body is built, goes through a service, and
//! its response is dropped. The inner service answers at once with a response that has no body.
//! The *floor* is a service over it that inserts a header that is ready.

pub mod chain;
pub mod heap;
pub mod keyed;
pub mod load;
pub mod rounds;
pub mod slow;
pub mod threads;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{
    HeaderValue, Request, Response, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use http_body_util::Empty;
use tokio::runtime::{Builder, Runtime};
use tower_bearer::{AccessToken, BearerAuthLayer, TokenCache, TokenError, TokenSource, from_fn};
use tower_layer::Layer;
use tower_service::Service;

/// The body of every request.
pub type Body = Empty<Bytes>;

/// The origin that the layers name.
pub const ORIGIN: &str = "https://api.example.com";

/// Where the requests go, as text.
pub const URI: &str = "https://api.example.com/v1/invoices?id=1";

/// How many origins a layer names where it names many.
pub const MANY: usize = 1_000;

/// The length of a token, in bytes.
pub const TOKEN_LENGTH: usize = 1024;

/// Where the requests go.
#[must_use]
pub fn uri() -> Uri {
    URI.parse().expect("that is a URI")
}

/// The request that is measured. Building it takes as little as it can, so that it does not hide
/// what is added to it.
#[must_use]
pub fn request(uri: &Uri) -> Request<Body> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri.clone();
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static("tower-bearer-benches/1"));
    request
}

/// One request through a service that answers at once.
#[inline]
pub fn walk<S>(service: &mut S, uri: &Uri)
where
    S: Service<Request<Body>, Response = Response<()>>,
{
    walk_with(service, request(uri));
}

/// The same for that request.
#[inline]
pub fn walk_with<S>(service: &mut S, request: Request<Body>)
where
    S: Service<Request<Body>, Response = Response<()>>,
{
    let response = service.call(black_box(request)).now_or_never();
    assert!(matches!(black_box(response), Some(Ok(_))), "the token is there");
}

/// A runtime for fetches. Tokens are fetched on its one worker.
#[must_use]
pub fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a runtime starts")
}

// ===== Tokens and layers =====

/// A cache that has a token, and how many tokens were fetched for it.
#[derive(Clone)]
pub struct Tokens {
    /// The cache.
    pub cache: TokenCache,
    fetched: Arc<AtomicUsize>,
}

impl Tokens {
    /// Fetches the first token.
    #[must_use]
    pub fn new(runtime: &Runtime) -> Self {
        let fetched = Arc::default();
        Self::first(runtime, TokenCache::new(source(&fetched)), fetched)
    }

    /// The same over a store that other processes might share, in that directory.
    #[cfg(unix)]
    #[must_use]
    pub fn shared(runtime: &Runtime, directory: &std::path::Path) -> Self {
        use tower_bearer::shared::{FileStore, Seal, Shared};

        let fetched = Arc::default();
        let store = FileStore::new(directory);
        let shared = Shared::new(source(&fetched), store).seal(Seal::new("5e".repeat(32)));
        Self::first(runtime, TokenCache::new(shared), fetched)
    }

    fn first(runtime: &Runtime, cache: TokenCache, fetched: Arc<AtomicUsize>) -> Self {
        runtime.block_on(cache.get()).expect("the source has a token");
        Self { cache, fetched }
    }

    /// How many tokens were fetched.
    #[must_use]
    pub fn fetched(&self) -> usize {
        self.fetched.load(Relaxed)
    }

    /// A layer that names one origin.
    #[must_use]
    pub fn layer(&self) -> BearerAuthLayer {
        let layer = BearerAuthLayer::from_cache(self.cache.clone());
        layer.origin(ORIGIN).expect("that is an origin")
    }

    /// A layer that names [`MANY`] origins: those of [`many_uris`].
    #[must_use]
    pub fn layer_of_many(&self) -> BearerAuthLayer {
        let layer = BearerAuthLayer::from_cache(self.cache.clone());
        (0..MANY).fold(layer, |layer, nth| {
            layer.origin(many_origin(nth).as_str()).expect("that is an origin")
        })
    }

    /// The floor: the header that the layer would insert.
    #[must_use]
    pub fn floor(&self) -> InsertHeader {
        let token = self.cache.current().expect("it lives for an hour");
        InsertHeader { inner: Answer, ready_header: token.header_value().clone() }
    }
}

/// The floor, with a token that no cache has.
#[must_use]
pub fn ready_header() -> InsertHeader {
    let token = token(0).expect("that is a token");
    InsertHeader { inner: Answer, ready_header: token.header_value().clone() }
}

/// Hands out a token each time, and counts them.
fn source(fetched: &Arc<AtomicUsize>) -> impl TokenSource {
    let counter = Arc::clone(fetched);
    from_fn(move |_| {
        let nth = counter.fetch_add(1, Relaxed);
        async move { token(nth) }
    })
}

/// A URI of each of [`MANY`] origins. [`ORIGIN`] is in the middle of them.
#[must_use]
pub fn many_uris() -> Vec<Uri> {
    let uri = |nth| (many_origin(nth) + "/v1/invoices?id=1").parse().expect("that is a URI");
    (0..MANY).map(uri).collect()
}

fn many_origin(nth: usize) -> String {
    if nth == MANY / 2 { ORIGIN.to_owned() } else { format!("https://{nth:03}.example.com") }
}

fn token(nth: usize) -> Result<AccessToken, TokenError> {
    let token = AccessToken::new(format!("{nth:0>TOKEN_LENGTH$}"));
    Ok(token.map_err(TokenError::permanent)?.with_lifetime(Duration::from_secs(3600)))
}

/// How much of a body may be kept.
pub const REPLAY_LIMIT: usize = 64 * 1024;

/// Checks that a layer puts the cache's token on a request.
pub fn check<L>(tokens: &Tokens, layer: &L, uri: &Uri)
where
    L: Layer<Echo>,
    L::Service: Service<Request<Body>, Response = Response<()>>,
{
    let response = layer.layer(Echo).call(request(uri)).now_or_never();
    let Some(Ok(response)) = response else { panic!("the token is there") };
    let token = tokens.cache.current().expect("it lives for an hour");
    assert_eq!(response.headers().get(AUTHORIZATION), Some(token.header_value()));
    assert_eq!(token.secret().len(), TOKEN_LENGTH);
}

// ===== The services =====

/// The inner service: answers at once.
#[derive(Clone, Copy, Debug)]
pub struct Answer;

impl<B> Service<Request<B>> for Answer {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    // As in a program of one crate: else the call of it, and a copy of the request, would count.
    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        black_box(request);
        ready(Ok(Response::new(())))
    }
}

/// The floor: inserts a header that is ready.
#[derive(Clone, Debug)]
pub struct InsertHeader<S = Answer> {
    inner: S,
    ready_header: HeaderValue,
}

impl InsertHeader {
    /// The same over another service.
    #[must_use]
    pub fn over<S>(&self, inner: S) -> InsertHeader<S> {
        InsertHeader { inner, ready_header: self.ready_header.clone() }
    }

    /// The same without the mark that the value is sensitive. HTTP/2 then sends an index instead of
    /// the value from the second request on.
    #[must_use]
    pub fn unmarked(mut self) -> Self {
        self.ready_header.set_sensitive(false);
        self
    }
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for InsertHeader<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<Body>) -> S::Future {
        request.headers_mut().insert(AUTHORIZATION, self.ready_header.clone());
        self.inner.call(request)
    }
}

/// An inner service for checks: the response has the request's headers.
#[derive(Clone, Copy, Debug)]
pub struct Echo;

impl Service<Request<Body>> for Echo {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut response = Response::new(());
        *response.headers_mut() = request.into_parts().0.headers;
        ready(Ok(response))
    }
}
