//! The layer among tower's own: what is above it, what is under it, and why.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt, load_shed::error::Overloaded, retry::Policy,
    timeout::error::Elapsed,
};
use tower_bearer::{BearerAuthLayer, Rejection, SkipAuth, TokenCache, testing::World};

use crate::world::{bounded, client};

type HttpRequest = Request<Full<Bytes>>;

/// A world, a cache of its tokens, and the layer over that for its API.
async fn world() -> (World, TokenCache, BearerAuthLayer) {
    let world = World::start().await.unwrap();
    let cache = TokenCache::new(world.tokens().endpoint().build().unwrap());
    let layer = BearerAuthLayer::from_cache(&cache).origin(world.api().origin()).unwrap();
    (world, cache, layer)
}

fn get(world: &World, path: &str) -> HttpRequest {
    Request::get(world.api().url(path)).body(Full::default()).unwrap()
}

/// A request that the layer leaves alone, and that the API rejects.
fn bare(world: &World, path: &str) -> HttpRequest {
    let mut request = get(world, path);
    request.extensions_mut().insert(SkipAuth);
    request
}

/// How many calls the API has accepted and rejected.
fn judged(world: &World) -> (u64, u64) {
    (world.api().accepted(), world.api().rejected())
}

/// A call that is on its way when this returns.
fn started<S, B>(
    stack: &S,
    request: HttpRequest,
) -> BoxFuture<'static, Result<Response<B>, BoxError>>
where
    S: Service<HttpRequest, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    let task = tokio::spawn(stack.clone().oneshot(request));
    async move { bounded(task).await.unwrap() }.boxed()
}

// ===== ConcurrencyLimit =====

#[tokio::test]
async fn a_limit_of_one_that_the_token_transport_shares_is_no_deadlock() {
    let world = World::start().await.unwrap();
    let wire = ServiceBuilder::new().concurrency_limit(1).service(client());
    let endpoint = world.tokens().endpoint().transport(wire.clone()).build().unwrap();
    // One handle for all calls: what it has reserved, it keeps.
    let layer = BearerAuthLayer::new(endpoint).origin(world.api().origin()).unwrap();
    let mut stack = ServiceBuilder::new().layer(layer).service(wire);
    for path in ["/cold", "/warm", "/revoked"] {
        if path == "/revoked" {
            world.revoke_all();
        }
        let request = get(&world, path);
        let call =
            async { ServiceExt::<HttpRequest>::ready(&mut stack).await?.call(request).await };
        assert_eq!(bounded(call).await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!((world.tokens().fetches(), judged(&world)), (2, (3, 1)));
}

#[tokio::test]
async fn a_call_that_waits_for_its_token_holds_no_permit() {
    let (world, _, layer) = world().await;
    let fetch = world.tokens().hold();
    let limited = ServiceBuilder::new().concurrency_limit(1).service(client());
    let mut stack = ServiceBuilder::new().layer(layer).service(limited);
    // The handle that was made ready lives on.
    let ready = ServiceExt::<HttpRequest>::ready(&mut stack).await.unwrap();
    let waiting = ready.call(get(&world, "/first"));
    bounded(world.tokens().until_fetches(1)).await;

    let response = bounded(stack.clone().oneshot(bare(&world, "/bare"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);

    fetch.release();
    assert_eq!(bounded(waiting).await.unwrap().status(), StatusCode::OK);
    assert_eq!(judged(&world), (1, 1));
}

// ===== LoadShed =====

#[tokio::test]
async fn load_shed_above_turns_calls_away_and_no_replay() {
    let (world, cache, layer) = world().await;
    bounded(cache.get()).await.unwrap();
    world.revoke_all();
    let stack =
        ServiceBuilder::new().load_shed().layer(layer).concurrency_limit(1).service(client());

    let fetch = world.tokens().hold();
    let rejected = started(&stack, get(&world, "/rejected"));
    bounded(world.tokens().until_fetches(2)).await;
    let call = world.api().hold();
    let slowly = started(&stack, bare(&world, "/slow"));
    bounded(world.api().until_calls(2)).await;
    // The one permit is taken.
    let error = bounded(stack.clone().oneshot(get(&world, "/late"))).await.unwrap_err();
    assert!(error.is::<Overloaded>(), "{error:?}");

    fetch.release();
    assert_eq!(bounded(cache.get()).await.unwrap().secret(), "t-2");
    call.release();
    assert_eq!(slowly.await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(rejected.await.unwrap().status(), StatusCode::OK);
    assert_eq!(judged(&world), (1, 2));
}

// ===== Timeout =====

#[tokio::test]
async fn a_timeout_above_ends_the_wait_for_a_token_and_not_the_fetch() {
    let (world, cache, layer) = world().await;
    let fetch = world.tokens().hold();
    let stack =
        ServiceBuilder::new().timeout(Duration::from_millis(50)).layer(layer).service(client());
    let error = bounded(stack.oneshot(get(&world, "/"))).await.unwrap_err();
    assert!(error.is::<Elapsed>(), "{error:?}");
    fetch.release();
    assert_eq!(bounded(cache.get()).await.unwrap().secret(), "t-1");
    assert_eq!(world.tokens().fetches(), 1);
}

#[tokio::test]
async fn a_timeout_under_does_not_run_while_a_token_is_fetched() {
    let (world, _, layer) = world().await;
    let fetch = world.tokens().hold();
    let stack =
        ServiceBuilder::new().layer(layer).timeout(Duration::from_secs(1)).service(client());
    let waiting = started(&stack, get(&world, "/"));
    bounded(world.tokens().until_fetches(1)).await;
    // A call under the same limit times out meanwhile.
    let call = world.api().hold();
    let error = bounded(stack.oneshot(bare(&world, "/slow"))).await.unwrap_err();
    assert!(error.is::<Elapsed>(), "{error:?}");
    call.release();
    fetch.release();
    assert_eq!(waiting.await.unwrap().status(), StatusCode::OK);
}

// ===== Retry =====

/// Tries again after a 503; the token is replaced meanwhile.
#[derive(Clone)]
struct Renewing(TokenCache);

impl<B> Policy<HttpRequest, Response<B>, BoxError> for Renewing {
    type Future = BoxFuture<'static, ()>;

    fn retry(
        &mut self,
        _: &mut HttpRequest,
        outcome: &mut Result<Response<B>, BoxError>,
    ) -> Option<Self::Future> {
        let busy = outcome.as_ref().is_ok_and(|response| response.status().is_server_error());
        let cache = self.0.clone();
        let renewed = async move {
            let rejection = Rejection::new(cache.current().expect("the call had one"));
            cache.renew(rejection).await.expect("the token service is there");
        };
        busy.then(|| renewed.boxed())
    }

    fn clone_request(&mut self, request: &HttpRequest) -> Option<HttpRequest> {
        Some(request.clone())
    }
}

#[tokio::test]
async fn a_retry_above_gives_each_try_the_token_of_its_time() {
    let (world, cache, layer) = world().await;
    let was_busy = Arc::new(AtomicBool::new(false));
    let busy_once = move |mut response: Response<hyper::body::Incoming>| {
        if !was_busy.swap(true, SeqCst) {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    };
    let stack = ServiceBuilder::new()
        .retry(Renewing(cache))
        .layer(layer)
        .map_response(busy_once)
        .service(client());
    let response = bounded(stack.oneshot(get(&world, "/busy"))).await.unwrap();
    assert_eq!(response.headers()["echo-token"], "t-2");
    assert_eq!(judged(&world), (2, 0));
}

// ===== Buffer =====

#[tokio::test]
async fn a_buffer_above_goes_on_while_a_call_waits_for_its_token() {
    let (world, _, layer) = world().await;
    let fetch = world.tokens().hold();
    let stack = ServiceBuilder::new().buffer(1).layer(layer).concurrency_limit(1).service(client());
    let waiting = started(&stack, get(&world, "/first"));
    bounded(world.tokens().until_fetches(1)).await;
    let response = bounded(stack.oneshot(bare(&world, "/bare"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    fetch.release();
    assert_eq!(waiting.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_buffer_under_the_layer_takes_both_calls_of_a_request() {
    let (world, cache, layer) = world().await;
    bounded(cache.get()).await.unwrap();
    world.revoke_all();
    let stack = ServiceBuilder::new().layer(layer).buffer(1).service(client());
    let response = bounded(stack.oneshot(get(&world, "/"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(judged(&world), (1, 1));
}
