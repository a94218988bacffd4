//! The promises hold in a reqwest-middleware chain too, over a real socket.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{Response, StatusCode, header},
    routing::any,
};
use futures_util::{future::join_all, stream};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error};
use reqwest_retry::{RetryTransientMiddleware, policies::ExponentialBackoff};
use tokio::{net::TcpListener, sync::Barrier, time::timeout};
use tower_bearer::{
    AccessToken, BearerAuthLayer, BearerAuthMiddleware, Elsewhere, Refused, SkipAuth, TokenCache,
    TokenError, from_fn,
};

// ===== The world =====

#[derive(Clone, Default)]
struct Api {
    seen: Arc<Mutex<Vec<String>>>,
    revoked: Arc<Mutex<HashSet<String>>>,
    /// How many answers are 503 before any other.
    busy: Arc<AtomicUsize>,
    redirect: Arc<Mutex<Option<String>>>,
    /// Requests with a path that begins with `/together` wait for each other here.
    together: Option<Arc<Barrier>>,
}

impl Api {
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(any(answer)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        origin
    }

    fn revoke(&self, secret: &str) {
        self.revoked.lock().unwrap().insert(secret.to_owned());
    }

    fn tokens(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(State(api): State<Api>, request: Request) -> Response<Body> {
    let line = request.headers().get(header::AUTHORIZATION);
    let token = line.map_or("-", |line| line.to_str().unwrap().trim_start_matches("Bearer "));
    let token = token.to_owned();
    let (is_together, is_first) = (request.uri().path().starts_with("/together"), token == "t1");
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    api.seen.lock().unwrap().push(token.clone());
    if let (true, true, Some(together)) = (is_together, is_first, &api.together) {
        together.wait().await;
    }
    let response = Response::builder();
    if let Some(location) = api.redirect.lock().unwrap().clone() {
        return response.status(302).header("location", location).body(Body::empty()).unwrap();
    }
    if api.busy.fetch_update(SeqCst, SeqCst, |busy| busy.checked_sub(1)).is_ok() {
        return response.status(503).body(Body::empty()).unwrap();
    }
    if token == "-" || api.revoked.lock().unwrap().contains(&token) {
        let challenge = r#"Bearer error="invalid_token""#;
        let response = response.status(401).header("www-authenticate", challenge);
        return response.body("who are you?".into()).unwrap();
    }
    response.body(body.into()).unwrap()
}

/// `t1`, `t2`, …
fn cache() -> (TokenCache, Arc<AtomicUsize>) {
    let fetches = Arc::new(AtomicUsize::new(0));
    let cache = TokenCache::new(from_fn({
        let fetches = Arc::clone(&fetches);
        move |_| {
            let nth = fetches.fetch_add(1, SeqCst) + 1;
            async move { AccessToken::new(format!("t{nth}")).map_err(TokenError::permanent) }
        }
    }));
    (cache, fetches)
}

fn client(auth: impl Into<BearerAuthMiddleware>) -> ClientWithMiddleware {
    ClientBuilder::new(reqwest::Client::new()).with(auth.into()).build()
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), work).await.expect("it takes too long")
}

// ===== The tests =====

#[tokio::test]
async fn a_rejected_request_is_sent_again_once_with_its_body() {
    let api = Api::default();
    let origin = api.start().await;
    api.revoke("t1");
    let (cache, fetches) = cache();
    let client = client(BearerAuthLayer::from_cache(cache).origin(&origin).unwrap());
    let response = within(client.post(&origin).body("body").send()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.text().await.unwrap(), "body");
    assert_eq!((api.tokens(), fetches.load(SeqCst)), (vec!["t1".into(), "t2".into()], 2));
}

#[tokio::test]
async fn n_requests_in_flight_whose_token_is_rejected_one_fetch() {
    let api = Api { together: Some(Arc::new(Barrier::new(50))), ..Api::default() };
    let origin = api.start().await;
    let (cache, fetches) = cache();
    let client = client(BearerAuthLayer::from_cache(cache).origin(&origin).unwrap());
    api.revoke("t1");
    let calls = (0..50).map(|n| client.get(format!("{origin}/together/{n}")).send());
    for response in within(join_all(calls)).await {
        assert_eq!(response.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(fetches.load(SeqCst), 2);
    assert_eq!(api.tokens().len(), 100);
}

#[tokio::test]
async fn what_cannot_be_sent_again_is_returned_and_renews_in_the_background() {
    for no_replay in [false, true] {
        let api = Api::default();
        let origin = api.start().await;
        api.revoke("t1");
        let (cache, _) = cache();
        let auth = BearerAuthLayer::from_cache(cache.clone()).origin(&origin).unwrap();
        let client = if no_replay { client(auth.no_replay()) } else { client(auth) };
        let chunks = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"body"))]);
        let request = client.post(&origin);
        let request = if no_replay {
            request.body("body")
        } else {
            request.body(reqwest::Body::wrap(http_body_util::StreamBody::new(
                futures_util::StreamExt::map(chunks, |chunk| chunk.map(http_body::Frame::data)),
            )))
        };
        let response = within(request.send()).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.text().await.unwrap(), "who are you?");
        assert_eq!(within(cache.get()).await.unwrap().secret(), "t2");
    }
}

#[tokio::test]
async fn replay_if_and_rejected_when_are_heeded() {
    let api = Api::default();
    let origin = api.start().await;
    api.revoke("t1");
    let (cache, fetches) = cache();
    let auth = BearerAuthLayer::from_cache(cache).origin(&origin).unwrap();
    let get_only = client(auth.clone().replay_if(|parts| parts.method == "GET"));
    let response = within(get_only.post(&origin).send()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let never = client(auth.rejected_when(|_| false));
    let response = within(never.get(&origin).send()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "t2 came in the background");
    assert_eq!(fetches.load(SeqCst), 2);
}

#[tokio::test]
async fn a_token_goes_only_to_origins_that_were_named() {
    let (api, other) = (Api::default(), Api::default());
    let (origin, elsewhere) = (api.start().await, other.start().await);
    let (cache, _) = cache();
    let auth = BearerAuthLayer::from_cache(cache).origin(&origin).unwrap();

    let error = within(client(auth.clone()).get(&elsewhere).send()).await.unwrap_err();
    let Error::Middleware(cause) = error else { panic!("another error: {error}") };
    assert!(matches!(cause.downcast_ref(), Some(Refused::NotNamed(_))), "{cause}");
    assert!(other.tokens().is_empty());

    let bare = client(auth.clone().elsewhere(Elsewhere::SendBare));
    assert_eq!(within(bare.get(&elsewhere).send()).await.unwrap().status(), 401);
    let skipped = client(auth.clone()).get(&elsewhere).with_extension(SkipAuth).send();
    assert_eq!(within(skipped).await.unwrap().status(), 401);
    let own = client(auth).get(&elsewhere).bearer_auth("own").send();
    assert_eq!(within(own).await.unwrap().status(), 200);
    assert_eq!(other.tokens(), ["-", "-", "own"]);
}

#[tokio::test]
async fn a_route_gets_its_own_token_and_a_failed_fetch_is_had_back() {
    let api = Api::default();
    let (first, second) = (api.start().await, api.start().await);
    let (cache, _) = cache();
    let failing = TokenCache::new(from_fn(|_| async {
        Err::<AccessToken, _>(TokenError::permanent("no such role"))
    }));
    let auth = BearerAuthLayer::from_cache(cache).origin(&first).unwrap();
    let client = client(auth.route(&second, failing).unwrap());
    assert_eq!(within(client.get(&first).send()).await.unwrap().status(), StatusCode::OK);
    let error = within(client.get(&second).send()).await.unwrap_err();
    let Error::Middleware(cause) = error else { panic!("another error: {error}") };
    assert_eq!(cause.downcast_ref::<TokenError>().unwrap().to_string(), "no such role");
    assert_eq!(api.tokens(), ["t1"]);
}

#[tokio::test]
async fn a_401_from_another_host_after_a_redirect_is_no_rejection() {
    let (api, other) = (Api::default(), Api::default());
    // Another origin, and the same machine: the port makes the difference.
    let (origin, elsewhere) = (api.start().await, other.start().await);
    *api.redirect.lock().unwrap() = Some(format!("{elsewhere}/login"));
    let (cache, fetches) = cache();
    let auth = BearerAuthLayer::from_cache(cache.clone()).origin(&origin).unwrap();
    let response = within(client(auth).get(&origin).send()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(other.tokens(), ["-"], "the token does not follow");
    assert_eq!((fetches.load(SeqCst), cache.status().is_suspect()), (1, false));
}

#[tokio::test]
async fn reqwest_retry_above_retries_what_failed_and_each_attempt_gets_its_token() {
    let api = Api::default();
    let origin = api.start().await;
    api.busy.store(2, SeqCst);
    api.revoke("t1");
    let (cache, fetches) = cache();
    let auth = BearerAuthLayer::from_cache(cache).origin(&origin).unwrap();
    let backoff = ExponentialBackoff::builder()
        .retry_bounds(Duration::from_millis(1), Duration::from_millis(2))
        .build_with_max_retries(3);
    let client = ClientBuilder::new(reqwest::Client::new())
        .with(RetryTransientMiddleware::new_with_policy(backoff))
        .with(BearerAuthMiddleware::from(auth))
        .build();
    let response = within(client.get(&origin).send()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(api.tokens(), ["t1", "t1", "t1", "t2"], "503, 503, 401, and again");
    assert_eq!(fetches.load(SeqCst), 2);

    // A 401 that stays is nothing that the retries touch.
    api.revoke("t2");
    api.revoke("t3");
    let response = within(client.get(&origin).send()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(api.tokens().len(), 6);
}
