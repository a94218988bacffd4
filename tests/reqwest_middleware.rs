//! The promises hold in a reqwest-middleware chain too, over a real socket.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use futures_util::{future::join_all, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error};
use reqwest_retry::{
    DefaultRetryableStrategy, RetryTransientMiddleware, Retryable, RetryableStrategy,
    policies::ExponentialBackoff,
};
use tokio::{net::TcpListener, time::timeout};
use tower_bearer::{
    AccessToken, BearerAuthLayer, BearerAuthMiddleware, BoxError, Refused, SkipAuth, TokenCache,
    TokenError, UnlistedOrigin, from_fn, oauth2::EndpointError, testing::World,
};

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), work).await.expect("it takes too long")
}

async fn world() -> (World, TokenCache) {
    let world = World::start().await.unwrap();
    let cache = TokenCache::new(world.tokens().endpoint().build().unwrap());
    (world, cache)
}

/// The same, with a token that was fetched and has been revoked.
async fn revoked() -> (World, TokenCache) {
    let (world, cache) = world().await;
    within(cache.get()).await.unwrap();
    world.revoke_all();
    (world, cache)
}

fn auth(world: &World, cache: &TokenCache) -> BearerAuthLayer {
    BearerAuthLayer::from_cache(cache.clone()).origin(world.api().origin()).unwrap()
}

fn client(auth: impl Into<BearerAuthMiddleware>) -> ClientWithMiddleware {
    ClientBuilder::new(reqwest::Client::new()).with(auth.into()).build()
}

/// The origin of a server that answers everything so.
async fn serve(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(get(move || async move { answer() }));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    origin
}

fn header(response: &reqwest::Response, name: &str) -> String {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
}

#[tokio::test]
async fn a_rejected_request_is_sent_again_once_with_its_body() {
    let (world, cache) = revoked().await;
    let client = client(auth(&world, &cache));
    let response = within(client.post(world.api().url("/x")).body("body").send()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        (header(&response, "echo-method"), header(&response, "echo-token")),
        ("POST".into(), "t-2".into())
    );
    assert_eq!(response.text().await.unwrap(), "body");
    assert_eq!((world.api().rejected(), world.tokens().fetches()), (1, 2));
}

#[tokio::test]
async fn n_requests_in_flight_whose_token_is_rejected_one_fetch() {
    let (world, cache) = world().await;
    let client = client(auth(&world, &cache));
    within(client.get(world.api().url("/warm")).send()).await.unwrap();
    let held = world.api().hold();
    let calls = (0..50).map(|n| client.get(world.api().url(&format!("/{n}"))).send());
    let calls = tokio::spawn(join_all(calls));
    within(world.api().until_calls(51)).await;
    world.revoke_all();
    held.release();
    for response in within(calls).await.unwrap() {
        assert_eq!(response.unwrap().status(), StatusCode::OK);
    }
    assert_eq!((world.api().rejected(), world.tokens().fetches()), (50, 2));
}

#[tokio::test]
async fn what_cannot_be_sent_again_is_returned_and_renews_in_the_background() {
    for has_stream in [true, false] {
        let (world, cache) = revoked().await;
        let auth = auth(&world, &cache);
        let client = if has_stream { client(auth) } else { client(auth.no_replay()) };
        let frame = Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"body")));
        let body = if has_stream {
            reqwest::Body::wrap(StreamBody::new(stream::iter([frame])))
        } else {
            "body".into()
        };
        let response = within(client.post(world.api().url("/")).body(body).send()).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(header(&response, "www-authenticate").contains("invalid_token"));
        assert_eq!(within(cache.get()).await.unwrap().secret(), "t-2");
        assert_eq!(world.api().calls(), 1);
    }
}

#[tokio::test]
async fn replay_if_and_rejected_when_are_heeded() {
    let (world, cache) = revoked().await;
    let get_only = auth(&world, &cache).replay_if(|parts| parts.method == "GET");
    let response = within(client(get_only).post(world.api().url("/")).send()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    within(cache.get()).await.unwrap();

    world.revoke_all();
    let never = auth(&world, &cache).rejected_when(|_| false);
    let response = within(client(never).get(world.api().url("/")).send()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(world.tokens().fetches(), 2);
}

#[tokio::test]
async fn a_token_goes_only_to_origins_that_were_named() {
    let (world, cache) = world().await;
    let other = World::start().await.unwrap();
    let unlisted = other.api().url("/");
    let auth = auth(&world, &cache);

    let error = within(client(auth.clone()).get(&unlisted).send()).await.unwrap_err();
    let Error::Middleware(cause) = error else { panic!("another error: {error}") };
    assert!(matches!(cause.downcast_ref(), Some(Refused::NotNamed(_))), "{cause}");
    assert_eq!(other.api().calls(), 0);

    let bare = client(auth.clone().unlisted_origins(UnlistedOrigin::SendBare)).get(&unlisted);
    let skipped = client(auth.clone()).get(&unlisted).with_extension(SkipAuth);
    let own = client(auth).get(&unlisted).bearer_auth("own");
    for request in [bare, skipped, own] {
        assert_eq!(within(request.send()).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!((other.api().rejected(), world.tokens().fetches()), (3, 0));
}

#[tokio::test]
async fn a_route_gets_its_own_token_and_a_failed_fetch_is_had_back() {
    let (world, cache) = world().await;
    let other = World::start_named("other").await.unwrap();
    let others = TokenCache::new(other.tokens().endpoint().build().unwrap());
    let failing = TokenCache::new(from_fn(|_| async {
        Err::<AccessToken, _>(TokenError::permanent("no such role"))
    }));
    let auth = auth(&world, &cache).route(other.api().origin(), others).unwrap();
    let client = client(auth.route("https://third.example.com", failing).unwrap());

    let response = within(client.get(world.api().url("/")).send()).await.unwrap();
    assert_eq!(header(&response, "echo-token"), "t-1");
    let response = within(client.get(other.api().url("/")).send()).await.unwrap();
    assert_eq!(header(&response, "echo-token"), "other-t-1");
    let error = within(client.get("https://third.example.com").send()).await.unwrap_err();
    let Error::Middleware(cause) = error else { panic!("another error: {error}") };
    assert_eq!(cause.downcast_ref::<TokenError>().unwrap().to_string(), "no such role");
}

#[tokio::test]
async fn a_401_from_another_host_after_a_redirect_is_no_rejection() {
    let (world, cache) = world().await;
    // Another origin on the same machine: the port makes the difference.
    let login = world.api().url("/login");
    let redirecting = serve(move || Redirect::to(&login).into_response()).await;
    let auth = BearerAuthLayer::from_cache(cache.clone()).origin(&redirecting).unwrap();
    let response = within(client(auth).get(&redirecting).send()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(!header(&response, "www-authenticate").contains("error"), "no token was shown there");
    assert_eq!((world.tokens().fetches(), cache.status().is_suspect()), (1, false));
}

fn backoff() -> ExponentialBackoff {
    ExponentialBackoff::builder()
        .retry_bounds(Duration::from_millis(1), Duration::from_millis(2))
        .build_with_max_retries(3)
}

#[tokio::test]
async fn reqwest_retry_above_retries_what_failed_and_leaves_a_401_alone() {
    let (_world, cache) = world().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let answers = {
        let calls = Arc::clone(&calls);
        move || -> Response {
            match calls.fetch_add(1, SeqCst) {
                0 | 1 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                _ => StatusCode::UNAUTHORIZED.into_response(),
            }
        }
    };
    let origin = serve(answers).await;
    let auth = BearerAuthLayer::from_cache(cache).origin(&origin).unwrap();
    let client = ClientBuilder::new(reqwest::Client::new())
        .with(RetryTransientMiddleware::new_with_policy(backoff()))
        .with(BearerAuthMiddleware::from(auth))
        .build();
    let response = within(client.get(&origin).send()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(calls.load(SeqCst), 4, "503 and 503 by the retries, 401 and 401 by the middleware");
}

/// Retries a request that had no token too.
struct Stubborn;

impl RetryableStrategy for Stubborn {
    fn handle(&self, result: &Result<reqwest::Response, Error>) -> Option<Retryable> {
        match result {
            Err(Error::Middleware(_)) => Some(Retryable::Transient),
            result => DefaultRetryableStrategy.handle(result),
        }
    }
}

#[tokio::test]
async fn an_error_is_found_through_the_chain_with_and_without_retries_and_in_anyhows() {
    let (world, _) = world().await;
    let wrong = || {
        let endpoint = world.tokens().endpoint().client_secret("hush").build().unwrap();
        BearerAuthMiddleware::from(auth(&world, &TokenCache::new(endpoint)))
    };
    let chain = || ClientBuilder::new(reqwest::Client::new());
    let stubborn = RetryTransientMiddleware::new_with_policy_and_strategy(backoff(), Stubborn);
    for (path, retries, client) in [
        ("the middleware", false, chain().with(wrong()).build()),
        (
            "reqwest-retry, which leaves it alone",
            false,
            chain()
                .with(RetryTransientMiddleware::new_with_policy(backoff()))
                .with(wrong())
                .build(),
        ),
        ("exhausted retries", true, chain().with(stubborn).with(wrong()).build()),
    ] {
        let error = within(client.get(world.api().url("/")).send()).await.unwrap_err();
        assert_eq!(error.to_string().contains("after 3 retries"), retries, "{path}: {error}");
        assert_found(&error, path);
        let error = anyhow::Error::new(error).context("no report");
        assert_found(error.as_ref(), &format!("{path}, in anyhow's"));
        let error = BoxError::from(error);
        assert_found(error.as_ref(), &format!("{path}, in anyhow's, boxed"));
    }
    let client = chain().with(wrong()).build();
    let error = within(client.get("https://unlisted.example.com/").send()).await.unwrap_err();
    assert!(TokenError::find_in(&error).is_none(), "no token was asked for");
}

fn assert_found(error: &(dyn std::error::Error + 'static), path: &str) {
    let found = TokenError::find_in(error).unwrap_or_else(|| panic!("{path}: {error:?}"));
    assert!(!found.is_transient(), "{path}");
    let found = EndpointError::find_in(error).unwrap_or_else(|| panic!("{path}: {error:?}"));
    assert_eq!(found.error(), Some("invalid_client"), "{path}");
}

#[tokio::test]
async fn an_error_that_a_middleware_has_put_from_a_box_into_anyhow_is_found() {
    let error = BoxError::from(TokenError::permanent("no such role"));
    let error = Error::Middleware(anyhow::anyhow!(error));
    assert_eq!(TokenError::find_in(&error).unwrap().to_string(), "no such role");
    let refused = Error::Middleware(anyhow::anyhow!(BoxError::from(Refused::NoOrigin)));
    assert!(TokenError::find_in(&refused).is_none());
}
