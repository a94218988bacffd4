//! The promises hold in a reqwest-middleware chain too, over a real socket.

#[path = "common/mint.rs"]
mod mint;
#[path = "common/scripted.rs"]
mod scripted;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
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
use reqwest::ResponseBuilderExt;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, Middleware, Next};
use reqwest_retry::{
    RetryTransientMiddleware, Retryable, RetryableStrategy, policies::ExponentialBackoff,
};
use tokio::{net::TcpListener, time::timeout};
use tower_bearer::{
    BearerAuthLayer, BearerAuthMiddleware, Refused, ReplayLimit, SkipAuth, TokenCache, TokenError,
    UnlistedOrigin,
    oauth2::{EndpointError, TokenEndpoint},
    testing::World,
};

use self::{mint::Mint, scripted::Scripted};

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

/// The origin of a server that gives this answer to each request: `testing` has no redirects and no 503.
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
async fn n_requests_in_flight_whose_token_is_rejected_cause_one_fetch() {
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
async fn replay_if_and_rejected_when_decide() {
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
async fn a_route_gets_its_own_token_and_a_failed_fetch_is_found_in_the_error() {
    let (world, cache) = world().await;
    let other = World::start_named("other").await.unwrap();
    let others = TokenCache::new(other.tokens().endpoint().build().unwrap());
    let failing = Mint::default();
    failing.fail_with(TokenError::permanent("no such role"));
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
    let backoff = ExponentialBackoff::builder()
        .retry_bounds(Duration::from_millis(1), Duration::from_millis(2))
        .build_with_max_retries(3);
    let client = ClientBuilder::new(reqwest::Client::new())
        .with(RetryTransientMiddleware::new_with_policy(backoff))
        .with(BearerAuthMiddleware::from(auth))
        .build();
    let response = within(client.get(&origin).send()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(calls.load(SeqCst), 4, "503 and 503 by the retries, 401 and 401 by the middleware");
}

/// Tries again whatever fails, also what never gets better.
struct Stubborn;

impl RetryableStrategy for Stubborn {
    fn handle(
        &self,
        result: &Result<reqwest::Response, reqwest_middleware::Error>,
    ) -> Option<Retryable> {
        result.is_err().then_some(Retryable::Transient)
    }
}

#[tokio::test]
async fn errors_are_found_under_reqwest_retry_and_say_each_thing_once() {
    let service = Scripted::refusing(401, "invalid_client");
    let endpoint = TokenEndpoint::builder("https://auth.example.com/token").client_id("orders");
    let endpoint = endpoint.client_secret("s3cr3t").transport(service).build().unwrap();
    let auth = BearerAuthMiddleware::from(BearerAuthLayer::new(endpoint).origin(API).unwrap());
    let backoff = || {
        let bounds = (Duration::from_millis(1), Duration::from_millis(2));
        ExponentialBackoff::builder().retry_bounds(bounds.0, bounds.1).build_with_max_retries(2)
    };
    let clients = || ClientBuilder::new(reqwest::Client::new());
    let usual = RetryTransientMiddleware::new_with_policy(backoff());
    let stubborn = RetryTransientMiddleware::new_with_policy_and_strategy(backoff(), Stubborn);
    for client in [
        clients().with(auth.clone()),
        clients().with(usual).with(auth.clone()),
        clients().with(stubborn).with(auth),
    ] {
        let client = client.build();
        let error = within(client.get(API).send()).await.unwrap_err();
        assert!(TokenError::find_in(&error).is_some_and(|error| !error.is_transient()));
        assert_eq!(EndpointError::find_in(&error).unwrap().error(), Some("invalid_client"));
        let text = format!("{:#}", anyhow::Error::from(error));
        assert_eq!(text.matches("invalid_client").count(), 1, "{text}");
        assert!(
            text.contains("has no access token and was not sent: the token endpoint"),
            "{text}"
        );

        let error = within(client.get("https://evil.example").send()).await.unwrap_err();
        assert!(matches!(Refused::find_in(&error), Some(Refused::NotNamed(_))), "{error:?}");
        assert!(TokenError::find_in(&error).is_none());
    }
}

// ===== Over a middleware that answers instead of a server =====

const API: &str = "https://api.example.com";

/// Rejects some tokens, fails for others, and remembers what each request carried.
#[derive(Clone, Default)]
struct Answering {
    rejects: &'static [&'static str],
    fails: &'static [&'static str],
    tokens: Arc<Mutex<Vec<String>>>,
    /// How many of its answers are still held by somebody.
    held: Arc<AtomicUsize>,
    extension: Option<CountsClones>,
}

/// A body that counts as held until it is dropped.
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(None)
    }
}

/// An extension that says how often it was cloned.
#[derive(Default)]
struct CountsClones(Arc<AtomicUsize>);

impl Clone for CountsClones {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, SeqCst);
        Self(Arc::clone(&self.0))
    }
}

#[async_trait]
impl Middleware for Answering {
    async fn handle(
        &self,
        request: reqwest::Request,
        _: &mut http::Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        assert_eq!(self.held.load(SeqCst), 0, "this call may need what that holds");
        let header = request.headers().get("authorization");
        let token = header.map_or("-", |value| value.to_str().unwrap()).replace("Bearer ", "");
        self.tokens.lock().unwrap().push(token.clone());
        if self.fails.contains(&&*token) {
            return Err(Error::middleware(std::io::Error::other("cut")));
        }
        self.held.fetch_add(1, SeqCst);
        let status = if self.rejects.contains(&&*token) { 401 } else { 200 };
        let body = reqwest::Body::wrap(Held(Arc::clone(&self.held)));
        let response = http::Response::builder().status(status).url(request.url().clone());
        let mut response = response.body(body).unwrap();
        if let Some(CountsClones(count)) = &self.extension {
            response.extensions_mut().insert(CountsClones(Arc::clone(count)));
        }
        Ok(response.into())
    }
}

impl Answering {
    fn under(&self, auth: impl Into<BearerAuthMiddleware>) -> ClientWithMiddleware {
        let client = ClientBuilder::new(reqwest::Client::new());
        client.with(auth.into()).with(self.clone()).build()
    }

    fn tokens(&self) -> Vec<String> {
        self.tokens.lock().unwrap().clone()
    }
}

/// The layer, for [`API`]: `t1`, `t2`, …
fn minting() -> BearerAuthLayer {
    BearerAuthLayer::new(Mint::default()).origin(API).unwrap()
}

#[tokio::test]
async fn a_url_without_a_host_or_that_is_no_uri_is_not_the_assumed_origin() {
    let api = Answering::default();
    let auth = minting().assume_origin(API).unwrap();
    let long = format!("https://evil.example/{}", "a".repeat(70_000));
    for url in [
        "data:text/plain,x",
        "mailto:a@api.example.com",
        "unix:/run/api.sock",
        "file:///etc/hosts",
        "ftp://api.example.com/",
        "https://evil.example/|^`{}?|^`{}",
        &long,
    ] {
        let request = || reqwest::Request::new(reqwest::Method::GET, url.parse().unwrap());
        let refused = within(api.under(auth.clone()).execute(request())).await;
        assert!(matches!(refused, Err(Error::Middleware(_))), "{url:.40}");
        let bare = auth.clone().unlisted_origins(UnlistedOrigin::SendBare);
        within(api.under(bare).execute(request())).await.unwrap();
    }
    assert_eq!(api.tokens(), ["-"; 7]);
    let long = long.replace("evil.example", "api.example.com");
    within(api.under(auth).get(&long).send()).await.unwrap();
    assert_eq!(api.tokens().last().unwrap(), "t1", "it is the origin that counts");
}

#[tokio::test]
async fn the_head_is_copied_only_for_the_rules_that_judge_it() {
    let clones = |auth: BearerAuthLayer| async move {
        let counts = [CountsClones::default(), CountsClones::default()];
        let [of_request, of_response] = counts.each_ref().map(|count| Arc::clone(&count.0));
        let [request, response] = counts;
        let api = Answering { extension: Some(response), ..Answering::default() };
        let client = api.under(auth);
        of_response.store(0, SeqCst);
        within(client.get(API).with_extension(request).send()).await.unwrap();
        [of_request, of_response].map(|count| count.load(SeqCst))
    };
    assert_eq!(clones(minting()).await, [0, 0]);
    assert_eq!(clones(minting().grpc()).await, [0, 0]);
    assert_eq!(clones(minting().replay_if(|_| true)).await, [1, 0]);
    assert_eq!(clones(minting().rejected_when(|_| false)).await, [0, 1]);
}

#[tokio::test]
async fn the_judges_see_the_whole_head() {
    let api = Answering { rejects: &["t1"], ..Answering::default() };
    let auth = minting()
        .replay_if(|parts| {
            parts.method == "POST"
                && parts.uri == "https://api.example.com/v1?x"
                && parts.headers.contains_key("idempotency-key")
                && parts.extensions.get::<u8>() == Some(&7)
        })
        .rejected_when(|parts| parts.status == 401);
    let post = api.under(auth).post(format!("{API}/v1?x")).with_extension(7_u8);
    let response = within(post.header("idempotency-key", "k").send()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(api.tokens(), ["t1", "t2"]);
}

#[tokio::test]
async fn the_rejection_is_let_go_of_before_the_second_call_and_that_is_the_last() {
    let api = Answering { rejects: &["t1", "t2", "t3"], ..Answering::default() };
    let cache = TokenCache::new(Mint::default());
    let client = api.under(BearerAuthLayer::from_cache(&cache).origin(API).unwrap());
    let response = within(client.get(API).send()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(cache.status().is_suspect(), "the second rejection is told");
    drop(response);
    let again = within(client.get(API).send()).await.unwrap();
    assert_eq!(again.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(api.tokens(), ["t1", "t2", "t2"], "the origin backs off");
}

#[tokio::test]
async fn an_error_of_the_second_call_is_the_answer() {
    let api = Answering { rejects: &["t1"], fails: &["t2"], ..Answering::default() };
    #[cfg(feature = "metrics")]
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    #[cfg(feature = "metrics")]
    let _until_the_end = metrics::set_default_local_recorder(&recorder);
    let error = within(api.under(minting()).get(API).send()).await.unwrap_err();
    assert!(error.to_string().contains("cut"), "{error}");
    #[cfg(feature = "metrics")]
    assert!(format!("{:?}", recorder.snapshotter().snapshot()).contains("failed"));
    assert_eq!(api.tokens(), ["t1", "t2"]);
}

#[tokio::test]
async fn a_body_that_is_longer_than_the_request_allows_to_be_kept_is_not_sent_again() {
    for (limit, calls) in [(3, 1), (4, 2), (0, 1)] {
        let api = Answering { rejects: &["t1"], ..Answering::default() };
        let post = api.under(minting()).post(API).body("body");
        within(post.with_extension(ReplayLimit(limit)).send()).await.unwrap();
        assert_eq!(api.tokens().len(), calls, "{limit}");
    }
}
