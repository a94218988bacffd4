//! The layer among tower's own: what is above it, what is under it, and why.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    routing::get,
};
use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use http_body_util::Full;
use tokio::sync::{Semaphore, watch};
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt, load_shed::error::Overloaded, retry::Policy,
    timeout::error::Elapsed,
};
use tower_bearer::{
    AccessToken, BearerAuthLayer, Rejection, SkipAuth, TokenCache, TokenError, TokenSource,
    from_fn, oauth2::TokenEndpoint,
};

use crate::{
    loopback::{self, Tokens},
    world::{World, bounded, client, token_url},
};

type HttpRequest = Request<Full<Bytes>>;

// ===== A world that waits for the test =====

/// Lets through what the test has let through, and tells it who has come.
#[derive(Clone)]
struct Gate {
    came: Arc<watch::Sender<usize>>,
    open: Arc<Semaphore>,
}

impl Gate {
    fn closed() -> Self {
        Self { came: Arc::default(), open: Arc::new(Semaphore::new(0)) }
    }

    async fn pass(&self) {
        self.came.send_modify(|came| *came += 1);
        self.open.acquire().await.expect("never closed").forget();
    }

    async fn somebody_came(&self, count: usize) {
        let mut came = self.came.subscribe();
        bounded(came.wait_for(|came| *came >= count)).await.unwrap();
    }

    fn let_one_pass(&self) {
        self.open.add_permits(1);
    }
}

fn gated(tokens: &Tokens, gate: &Gate) -> impl TokenSource {
    let (tokens, gate) = (tokens.clone(), gate.clone());
    from_fn(move |_| {
        let (tokens, gate) = (tokens.clone(), gate.clone());
        async move {
            gate.pass().await;
            AccessToken::new(tokens.issue()).map_err(TokenError::permanent)
        }
    })
}

/// The world whose tokens wait for the first gate, and whose `/slow` waits for the second.
async fn gated_world() -> (World, Gate, Gate) {
    let (tokens, fetches, slow) = (Tokens::default(), Gate::closed(), Gate::closed());
    let gate = slow.clone();
    let handler = get(move || async move { gate.pass().await });
    let api = Router::new().route("/slow", handler).merge(loopback::protected_api(&tokens));
    let source = gated(&tokens, &fetches);
    (World::with_source(tokens, api, source).await, fetches, slow)
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
    let tokens = Tokens::default();
    let api = loopback::serve(loopback::protected_api(&tokens)).await.unwrap();
    let wire = ServiceBuilder::new().concurrency_limit(1).service(client());
    let endpoint = TokenEndpoint::builder(token_url(&tokens).await)
        .client_id("my-app")
        .client_secret("s3cr3t")
        .transport(wire.clone())
        .build()
        .unwrap();
    // One handle for all calls: what it has reserved, it keeps.
    let layer = BearerAuthLayer::new(endpoint).origin(&api).unwrap();
    let mut stack = ServiceBuilder::new().layer(layer).service(wire);
    for path in ["/cold", "/warm", "/revoked"] {
        if path == "/revoked" {
            tokens.revoke();
        }
        let request: HttpRequest =
            Request::get(format!("{api}{path}")).body(Full::default()).unwrap();
        let call =
            async { ServiceExt::<HttpRequest>::ready(&mut stack).await?.call(request).await };
        assert_eq!(bounded(call).await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(tokens.shown(), ["t1", "t1", "t1", "t2"]);
}

#[tokio::test]
async fn a_call_that_waits_for_its_token_holds_no_permit() {
    let (world, fetches, _) = gated_world().await;
    let limited = ServiceBuilder::new().concurrency_limit(1).service(client());
    let mut stack = ServiceBuilder::new().layer(world.layer()).service(limited);
    // The handle that was made ready lives on.
    let ready = ServiceExt::<HttpRequest>::ready(&mut stack).await.unwrap();
    let waiting = ready.call(world.get("/first"));
    fetches.somebody_came(1).await;

    let mut bare = world.get("/bare");
    bare.extensions_mut().insert(SkipAuth);
    let response = bounded(stack.clone().oneshot(bare)).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);

    fetches.let_one_pass();
    assert_eq!(bounded(waiting).await.unwrap().status(), StatusCode::OK);
    assert_eq!(world.tokens.shown(), ["none", "t1"]);
}

// ===== LoadShed =====

#[tokio::test]
async fn load_shed_above_turns_calls_away_and_no_replay() {
    let (world, fetches, slow) = gated_world().await;
    fetches.let_one_pass();
    bounded(world.cache.get()).await.unwrap();
    world.tokens.revoke();
    let stack = ServiceBuilder::new()
        .load_shed()
        .layer(world.layer())
        .concurrency_limit(1)
        .service(client());

    let rejected = started(&stack, world.get("/rejected"));
    fetches.somebody_came(2).await;
    let mut bare = world.get("/slow");
    bare.extensions_mut().insert(SkipAuth);
    let slowly = started(&stack, bare);
    slow.somebody_came(1).await;
    // The one permit is taken.
    let error = bounded(stack.clone().oneshot(world.get("/late"))).await.unwrap_err();
    assert!(error.is::<Overloaded>(), "{error:?}");

    fetches.let_one_pass();
    assert_eq!(bounded(world.cache.get()).await.unwrap().secret(), "t2");
    slow.let_one_pass();
    assert_eq!(slowly.await.unwrap().status(), StatusCode::OK);
    assert_eq!(rejected.await.unwrap().status(), StatusCode::OK);
    assert_eq!(world.tokens.shown(), ["t1", "t2"]);
}

// ===== Timeout =====

#[tokio::test]
async fn a_timeout_above_ends_the_wait_for_a_token_and_not_the_fetch() {
    let (world, fetches, _) = gated_world().await;
    let stack = ServiceBuilder::new()
        .timeout(Duration::from_millis(50))
        .layer(world.layer())
        .service(client());
    let error = bounded(stack.oneshot(world.get("/"))).await.unwrap_err();
    assert!(error.is::<Elapsed>(), "{error:?}");
    fetches.let_one_pass();
    assert_eq!(bounded(world.cache.get()).await.unwrap().secret(), "t1");
    assert_eq!(world.tokens.issued(), 1);
}

#[tokio::test]
async fn a_timeout_under_does_not_run_while_a_token_is_fetched() {
    let (world, fetches, _) = gated_world().await;
    let stack = ServiceBuilder::new()
        .layer(world.layer())
        .timeout(Duration::from_secs(1))
        .service(client());
    let waiting = started(&stack, world.get("/"));
    fetches.somebody_came(1).await;
    // Something under the same limit comes to its end meanwhile.
    let mut bare = world.get("/slow");
    bare.extensions_mut().insert(SkipAuth);
    let error = bounded(stack.oneshot(bare)).await.unwrap_err();
    assert!(error.is::<Elapsed>(), "{error:?}");
    fetches.let_one_pass();
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
    let tokens = Tokens::default();
    let (was_busy, checks) = (Arc::new(AtomicBool::new(false)), tokens.clone());
    let handler = get(move |headers: HeaderMap| async move {
        let token = checks.check(&headers);
        let busy = !was_busy.swap(true, SeqCst);
        if busy { Err(StatusCode::SERVICE_UNAVAILABLE) } else { Ok(token.unwrap_or_default()) }
    });
    let api = Router::new().route("/busy", handler);
    let world = World::with_api(tokens, api).await;
    let stack = ServiceBuilder::new()
        .retry(Renewing(world.cache.clone()))
        .layer(world.layer())
        .service(client());
    let response = bounded(stack.oneshot(world.get("/busy"))).await.unwrap();
    assert_eq!(loopback::text(response).await.unwrap(), "t2");
    assert_eq!(world.tokens.shown(), ["t1", "t2"]);
}

// ===== Buffer =====

#[tokio::test]
async fn a_buffer_above_goes_on_while_a_call_waits_for_its_token() {
    let (world, fetches, _) = gated_world().await;
    let stack =
        ServiceBuilder::new().buffer(1).layer(world.layer()).concurrency_limit(1).service(client());
    let waiting = started(&stack, world.get("/first"));
    fetches.somebody_came(1).await;
    let mut bare = world.get("/bare");
    bare.extensions_mut().insert(SkipAuth);
    let response = bounded(stack.oneshot(bare)).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    fetches.let_one_pass();
    assert_eq!(waiting.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_buffer_under_the_layer_takes_both_calls_of_a_request() {
    let world = World::start().await;
    world.cache.get().await.unwrap();
    world.tokens.revoke();
    let stack = ServiceBuilder::new().layer(world.layer()).buffer(1).service(client());
    let response = bounded(stack.oneshot(world.get("/"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(world.tokens.shown(), ["t1", "t2"]);
}
