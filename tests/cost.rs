//! Promise 25, exactly: with a usable token the layer adds to a bare header insertion no
//! allocation and no task. Each thread counts its own allocations.

#[path = "common/heap.rs"]
mod heap;

#[cfg(feature = "metrics")]
use std::cell::Cell;
use std::{
    future::{Ready, ready},
    hint::black_box,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{
    HeaderName, HeaderValue, Request, Response,
    header::{self, AUTHORIZATION},
};
use http_body_util::Full;
use tokio::runtime::Handle;
use tower::{BoxError, Layer, Service};
use tower_bearer::{AccessToken, BearerAuthLayer, TokenCache, TokenError, from_fn};

/// What `CloneBody` allocates beyond what `NoReplay` does, for a request with up to 8 headers whose
/// values and body take no memory to clone, over an inner service that takes none either.
// The box for what is kept.
const KEPT: usize = 1;

/// Answers at once, and allocates nothing. Its clones do, if it is made so: then a clone shows.
struct Inner(Option<Box<u8>>);

impl Inner {
    fn whose_clones_allocate() -> Self {
        Self(Some(Box::new(0)))
    }
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        Self(black_box(self.0.clone()))
    }
}

impl Service<Request<Full<Bytes>>> for Inner {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Ready<Result<Response<()>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        assert!(request.headers().contains_key(AUTHORIZATION));
        ready(Ok(Response::new(())))
    }
}

/// The floor: a header that is ready is inserted.
struct Insert(Inner, HeaderValue);

impl Service<Request<Full<Bytes>>> for Insert {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Ready<Result<Response<()>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Full<Bytes>>) -> Self::Future {
        request.headers_mut().insert(AUTHORIZATION, self.1.clone());
        self.0.call(request)
    }
}

/// The allocations of three calls, apart from those that the requests themselves need.
fn allocations<S>(service: &mut S, uri: &str) -> [usize; 3]
where
    S: Service<Request<Full<Bytes>>, Response = Response<()>, Error = BoxError>,
{
    allocations_of(service, || get(uri))
}

fn get(uri: &str) -> Request<Full<Bytes>> {
    Request::get(uri).body(Full::new(Bytes::from_static(b"body"))).unwrap()
}

/// The same for requests with so many headers.
fn allocations_with_headers<S>(service: &mut S, uri: &str, headers: usize) -> [usize; 3]
where
    S: Service<Request<Full<Bytes>>, Response = Response<()>, Error = BoxError>,
{
    allocations_of(service, || {
        let mut request = get(uri);
        for name in &HEADERS[..headers] {
            request.headers_mut().insert(name, HeaderValue::from_static("*/*"));
        }
        request
    })
}

/// The same for such requests.
fn allocations_of<S>(service: &mut S, request: impl Fn() -> Request<Full<Bytes>>) -> [usize; 3]
where
    S: Service<Request<Full<Bytes>>, Response = Response<()>, Error = BoxError>,
{
    let mut count = || {
        let request = request();
        let before = heap::allocations();
        let response = service.call(request).now_or_never().expect("it does not wait");
        let count = heap::allocations() - before;
        assert_eq!(response.unwrap().status(), 200);
        count
    };
    // The first request leaves a pass for the next ones, once for each token and route.
    let first = count();
    assert!(first < 20, "{first}");
    [(); 3].map(|()| count())
}

async fn cache() -> TokenCache {
    let cache = TokenCache::new(from_fn(|_| async {
        let token = AccessToken::new("abc").map_err(TokenError::permanent)?;
        Ok(token.with_lifetime(Duration::from_secs(1000)))
    }));
    cache.get().await.unwrap();
    cache
}

const API: &str = "https://api.example.com/v1/things?id=1";

const HEADERS: [HeaderName; 8] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::CACHE_CONTROL,
    header::CONTENT_TYPE,
    header::ORIGIN,
    header::REFERER,
    header::USER_AGENT,
];

#[tokio::test]
async fn with_a_usable_token_no_replay_allocates_nothing_above_a_bare_header_insertion() {
    let cache = cache().await;
    let layer =
        BearerAuthLayer::from_cache(cache.clone()).origin("https://api.example.com").unwrap();
    let header = cache.get().await.unwrap().header_value().clone();
    let floor = allocations(&mut Insert(Inner::whose_clones_allocate(), header), API);
    assert!(floor[0] > 0, "the header map itself: the counter counts");

    let any = BearerAuthLayer::from_cache(cache.clone()).any_https().no_replay();
    let many = BearerAuthLayer::from_cache(cache.clone());
    let many = (0..1000).fold(many, |many, nth| {
        let nth = if nth == 500 { "api".to_owned() } else { format!("api-{nth}") };
        many.origin(format!("https://{nth}.example.com").as_str()).unwrap()
    });
    let assumed = layer.clone().assume_origin("https://api.example.com").unwrap().no_replay();
    let tasks = Handle::current().metrics().num_alive_tasks();
    for (what, layer, uri) in [
        ("named", layer.no_replay(), API),
        ("one of a thousand", many.no_replay(), API),
        ("assumed", assumed, "/v1/things?id=1"),
    ] {
        let mut service = layer.layer(Inner::whose_clones_allocate());
        assert_eq!(allocations(&mut service, uri), floor, "{what}");
    }
    let mut any = any.layer(Inner::whose_clones_allocate());
    assert_eq!(allocations(&mut any, API), floor, "any https");
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
}

#[cfg(feature = "keyed")]
#[tokio::test]
async fn with_a_usable_token_of_its_key_a_request_allocates_nothing_above_a_bare_header_insertion()
{
    use tower_bearer::{KeyedTokenCache, Subject, TokenKey};

    let user = Subject::new(AccessToken::new("user").unwrap());
    let keyed = TokenKey::new().scope("a b").param("tenant", "1").on_behalf_of(user);
    let source = from_fn(|_| async { AccessToken::new("abc").map_err(TokenError::permanent) });
    let tokens = KeyedTokenCache::builder(source).build().unwrap();
    let layer = BearerAuthLayer::from_cache(&tokens).origin("https://api.example.com").unwrap();
    for key in [TokenKey::new(), keyed] {
        let header = tokens.get(&key).await.unwrap().header_value().clone();
        let request = || {
            let mut request = get(API);
            request.extensions_mut().insert(key.clone());
            request
        };
        let floor = allocations_of(&mut Insert(Inner(None), header), request);
        let mut service = layer.clone().no_replay().layer(Inner(None));
        assert_eq!(allocations_of(&mut service, request), floor, "{key:?}");
        let without_key = allocations(&mut service, API);
        assert_eq!(without_key, allocations(&mut service, API), "the key of those without one");
    }
}

#[tokio::test]
async fn to_get_a_usable_token_allocates_nothing() {
    let cache = cache().await;
    let before = heap::allocations();
    for _ in 0..3 {
        black_box(cache.get().now_or_never().expect("it does not wait").unwrap());
    }
    assert_eq!(heap::allocations() - before, 0);
}

#[cfg(feature = "keyed")]
#[tokio::test]
async fn to_get_the_usable_token_of_a_key_allocates_nothing() {
    use tower_bearer::{KeyedTokenCache, Subject, TokenKey};

    let user = Subject::new(AccessToken::new("user").unwrap());
    let key = TokenKey::new().scope("a b").param("tenant", "1").on_behalf_of(user);
    let source = from_fn(|_| async { AccessToken::new("abc").map_err(TokenError::permanent) });
    let tokens = KeyedTokenCache::builder(source).build().unwrap();
    tokens.get(&key).await.unwrap();
    let before = heap::allocations();
    for _ in 0..3 {
        black_box(tokens.get(&key).now_or_never().expect("it does not wait").unwrap());
    }
    assert_eq!(heap::allocations() - before, 0);
}

#[tokio::test]
async fn a_token_on_trial_costs_nothing_more_once_it_is_proven() {
    let cache = cache().await;
    let fresh = TokenCache::new(from_fn(|request: tower_bearer::TokenRequest| async move {
        let secret = format!("for-{:?}", request.reason());
        AccessToken::new(secret).map_err(TokenError::permanent)
    }));
    let first = fresh.get().await.unwrap();
    fresh.renew(tower_bearer::Rejection::new(first)).await.unwrap();

    let layer = |cache: TokenCache| {
        let layer = BearerAuthLayer::from_cache(cache).origin("https://api.example.com").unwrap();
        layer.no_replay().layer(Inner::whose_clones_allocate())
    };
    let floor = allocations(&mut layer(cache), API);
    assert_eq!(allocations(&mut layer(fresh), API), floor);
}

#[tokio::test]
async fn what_is_kept_for_a_replay_is_all_that_the_default_adds() {
    let cache = cache().await;
    let layer = BearerAuthLayer::from_cache(cache).origin("https://api.example.com").unwrap();
    let bare =
        allocations(&mut layer.clone().no_replay().layer(Inner::whose_clones_allocate()), API);
    let kept = allocations(&mut layer.layer(Inner::whose_clones_allocate()), API);
    // The clone of the inner service, and a box for what is kept. The clones of an empty header
    // map, of the method, of the URI and of `Full<Bytes>` allocate nothing.
    assert_eq!(kept, bare.map(|bare| bare + 2));
}

#[tokio::test]
async fn up_to_eight_headers_are_kept_with_a_fixed_number_of_allocations() {
    let cache = cache().await;
    let layer = BearerAuthLayer::from_cache(cache).origin("https://api.example.com").unwrap();
    for headers in 1..=HEADERS.len() {
        let mut bare = layer.clone().no_replay().layer(Inner(None));
        let bare = allocations_with_headers(&mut bare, API, headers);
        let kept = allocations_with_headers(&mut layer.layer(Inner(None)), API, headers);
        assert_eq!(kept, bare.map(|bare| bare + KEPT), "{headers} headers");
    }
}

#[cfg(feature = "metrics")]
thread_local! {
    static RECORDED: Cell<usize> = const { Cell::new(0) };
}

/// A recorder that is there, and allocates nothing.
#[cfg(feature = "metrics")]
struct Recorder;

#[cfg(feature = "metrics")]
impl metrics::Recorder for Recorder {
    fn describe_counter(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }

    fn describe_gauge(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }

    fn describe_histogram(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }

    fn register_counter(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::noop()
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }

    fn register_histogram(
        &self,
        key: &metrics::Key,
        _: &metrics::Metadata<'_>,
    ) -> metrics::Histogram {
        assert_eq!(key.name(), "tower_bearer_token_left_seconds");
        assert!(key.labels().map(metrics::Label::value).eq(["billing"]));
        RECORDED.set(RECORDED.get() + 1);
        black_box(metrics::Histogram::noop())
    }
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn to_count_the_use_of_a_named_cache_allocates_nothing() {
    let cache = cache().await.named("billing");
    metrics::with_local_recorder(&Recorder, || {
        let before = heap::allocations();
        for _ in 0..3 {
            black_box(cache.get().now_or_never().expect("there is a token").unwrap());
        }
        assert_eq!((heap::allocations() - before, RECORDED.get()), (0, 3));
    });
}
