//! Promises 19 and 21 to 23.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::Full;
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer};
use tower_bearer::{
    AccessToken, BearerAuth, BearerAuthLayer, Challenge, InvalidOrigin, Refused, Rejection,
    SkipAuth, TokenError, TokenRequest, TokenSource, UnlistedOrigin,
};

use crate::support::*;

fn refused(error: &BoxError) -> &Refused {
    error.downcast_ref().unwrap_or_else(|| panic!("another error: {error}"))
}

async fn ready_for_a_call(stack: &mut BearerAuth<Api>) {
    ServiceExt::<Request<Full<Bytes>>>::ready(stack).await.unwrap();
}

// ===== 19 =====

#[tokio::test(start_paused = true)]
async fn the_inner_service_is_called_at_most_twice_for_each_request() {
    let mint = Mint::default();
    let api = Api::new();
    api.reject_all(true);
    let stack = layer(&cache(mint.clone())).layer(api.clone());
    assert_eq!(send(&stack, get("/")).await.unwrap().status(), 401);
    assert_eq!(api.tokens(), ["t1", "t2"]);
}

#[tokio::test(start_paused = true)]
async fn no_service_is_called_that_was_not_polled_ready() {
    // `Api` panics if it is: here on the first call, after a wait, and on the replay.
    let api = Api::new();
    api.revoke("t1");
    let stack = layer(&cache(Mint::default())).layer(api.clone());
    assert_eq!(send(&stack, get("/")).await.unwrap().status(), 200);
    assert_eq!(api.tokens(), ["t1", "t2"]);
    assert_eq!(api.reserved(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_releases_its_ready_service_and_polls_it_again_afterwards() {
    let (source, mut desk) = manual();
    let api = Api::new();
    let stack = layer(&cache(source)).layer(api.clone());
    let mut ready = stack.clone();
    ready_for_a_call(&mut ready).await;
    assert_eq!(api.reserved(), 1);
    let response = tower::Service::call(&mut ready, get("/"));
    let response = tokio::spawn(response);
    let call = desk.next().await;
    settle().await;
    assert_eq!(api.reserved(), 0, "held up by waiting");
    call.answer("a");
    assert_eq!(response.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn the_first_calls_future_is_dropped_before_the_second_poll_ready() {
    // The permit of a concurrency limit lives in the response future: with one permit this
    // would wait for itself.
    let api = Api::new();
    api.revoke("t1");
    let stack = ServiceBuilder::new()
        .layer(layer(&cache(Mint::default())))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(api.clone());
    for _ in 0..3 {
        let response = tokio::time::timeout(S, send(&stack, get("/"))).await.expect("a deadlock");
        assert_eq!(response.unwrap().status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_or_failed_request_holds_nothing_up() {
    let mint = Mint::default();
    mint.fail_with(invalid_client());
    let api = Api::new();
    let mut stack = layer(&cache(mint)).layer(api.clone());
    ready_for_a_call(&mut stack).await;
    tower::Service::call(&mut stack, get_from("https://evil.example/")).await.unwrap_err();
    assert_eq!(api.reserved(), 0);
    ready_for_a_call(&mut stack).await;
    tower::Service::call(&mut stack, get("/")).await.unwrap_err();
    ready_for_a_call(&mut stack).await;
    tower::Service::call(&mut stack, get("/")).await.unwrap_err();
    assert_eq!(api.reserved(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetch_is_found_in_the_services_error() {
    let mint = Mint::default();
    mint.fail_with(invalid_client());
    let api = Api::new();
    let stack = layer(&cache(mint)).layer(api.clone());
    let error = send(&stack, get("/")).await.unwrap_err();
    assert!(!error.downcast_ref::<TokenError>().unwrap().is_transient());
    assert!(api.seen().is_empty(), "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn the_inner_services_error_comes_through() {
    let inner = tower::service_fn(|_: Request<Full<Bytes>>| async {
        Err::<Response<Full<Bytes>>, _>(std::io::Error::other("cut"))
    });
    let stack = layer(&cache(Mint::default())).layer(inner);
    let error = send(&stack, get("/")).await.unwrap_err();
    assert_eq!(error.downcast_ref::<std::io::Error>().unwrap().to_string(), "cut");
}

// ===== 21 =====

#[tokio::test(start_paused = true)]
async fn a_rejection_that_cannot_be_replayed_is_returned_at_once_and_still_starts_the_renewal() {
    let (source, mut desk) = manual();
    let api = Api::new();
    api.revoke("a");
    let cache = cache(source);
    let with_no_replay = layer(&cache).no_replay().layer(api.clone());
    let with_a_judge = layer(&cache).replay_if(|parts| parts.method == "GET").layer(api.clone());
    desk.fill(&cache, token("a")).await;

    let response = send(&with_no_replay, get("/")).now_or_never().expect("at once").unwrap();
    assert_eq!(response.status(), 401);
    desk.next().await.answer("b");
    settle().await;
    assert_eq!(cache.current().unwrap().secret(), "b");
    send(&with_no_replay, get("/")).await.unwrap();

    tokio::time::advance(2 * S).await;
    api.revoke("b");
    let post = Request::post(API).body(Full::<Bytes>::default()).unwrap();
    let response = send(&with_a_judge, post).now_or_never().expect("at once").unwrap();
    assert_eq!(response.status(), 401);
    desk.next().await.answer("c");
}

// ===== 22 =====

#[tokio::test(start_paused = true)]
async fn a_token_goes_only_to_origins_that_were_named() {
    let mint = Mint::default();
    let api = Api::new();
    let stack = layer(&cache(mint.clone())).layer(api.clone());
    for uri in [
        "https://api.example.com.evil.example/",
        "https://evil.example/",
        "https://api.example.com:8443/",
        "http://api.example.com/",
        "https://api.example.com@evil.example/",
        "https://api.example.com:pw@evil.example/",
        "https://xapi.example.com/",
    ] {
        let error = send(&stack, get_from(uri)).await.unwrap_err();
        assert!(matches!(refused(&error), Refused::NotNamed(_)), "{uri}: {error}");
        assert!(error.to_string().contains(".origin(") || error.to_string().contains("::origin("));
        assert!(!error.to_string().contains("pw"));
    }
    for uri in ["/v1", "api.example.com:443", "ftp://api.example.com/"] {
        let error = send(&stack, get_from(uri)).await.unwrap_err();
        assert_eq!(refused(&error), &Refused::NoOrigin, "{uri}");
        assert!(error.to_string().contains("assume_origin"));
    }
    assert_eq!(mint.fetches(), 0, "and not even fetches one");
    assert!(api.seen().is_empty());

    for uri in
        ["https://api.example.com:443/", "HTTPS://API.EXAMPLE.COM/", "https://u@api.example.com/"]
    {
        send(&stack, get_from(uri)).await.unwrap();
    }
    assert_eq!(api.tokens(), ["t1"; 3]);
}

#[tokio::test(start_paused = true)]
async fn the_host_header_never_decides_where_a_token_goes() {
    let api = Api::new();
    let stack = layer(&cache(Mint::default())).layer(api.clone());
    for uri in ["/", "https://evil.example/"] {
        let request = Request::get(uri).header("host", "api.example.com").body(Full::default());
        send::<_, Full<Bytes>, _>(&stack, request.unwrap()).await.unwrap_err();
    }
    assert!(api.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_token_goes_only_over_tls_or_to_loopback() {
    let api = Api::new();
    let cache = cache(Mint::default());
    let plain = |origin: &str| BearerAuthLayer::from_cache(cache.clone()).origin(origin).unwrap();

    let stack = plain("http://internal.example").layer(api.clone());
    let error = send(&stack, get_from("http://internal.example/")).await.unwrap_err();
    assert!(matches!(refused(&error), Refused::Plaintext(_)));
    assert!(error.to_string().contains("allow_plaintext()"));
    assert!(api.seen().is_empty());

    let allowed = plain("http://internal.example").allow_plaintext().layer(api.clone());
    send(&allowed, get_from("http://internal.example/")).await.unwrap();
    for origin in ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"] {
        send(&plain(origin).layer(api.clone()), get_from(origin)).await.unwrap();
    }
    assert_eq!(api.tokens(), ["t1"; 4]);
}

#[tokio::test(start_paused = true)]
async fn with_any_https_a_token_goes_to_every_https_origin_and_to_no_other() {
    let api = Api::new();
    let stack = BearerAuthLayer::from_cache(cache(Mint::default())).any_https().layer(api.clone());
    send(&stack, get_from("https://wherever.example/")).await.unwrap();
    for uri in ["http://wherever.example/", "http://127.0.0.1/", "/"] {
        send(&stack, get_from(uri)).await.unwrap_err();
    }
    assert_eq!(api.tokens(), ["t1"]);
}

#[tokio::test(start_paused = true)]
async fn a_route_gets_its_own_token() {
    let (api, first, second) = (Api::new(), Mint::default(), Mint::default());
    second.always(token("other"));
    let stack = layer(&cache(first))
        .route("https://other.example.com", cache(second))
        .unwrap()
        .layer(api.clone());
    send(&stack, get("/")).await.unwrap();
    send(&stack, get_from("https://other.example.com/")).await.unwrap();
    assert_eq!(api.tokens(), ["t1", "other"]);
}

#[tokio::test(start_paused = true)]
async fn a_route_may_be_given_a_source_which_gets_a_cache_of_its_own() {
    let (api, second) = (Api::new(), Mint::default());
    second.always(token("other"));
    let stack = layer(&cache(Mint::default()))
        .route("https://other.example.com", second.clone())
        .unwrap()
        .layer(api.clone());
    for _ in 0..2 {
        send(&stack, get_from("https://other.example.com/")).await.unwrap();
    }
    assert_eq!((api.tokens(), second.fetches()), (vec!["other".to_owned(); 2], 1));
}

#[test]
fn an_origin_has_one_token() {
    let layer = BearerAuthLayer::new(Mint::default()).origin(API).unwrap().origin(API).unwrap();
    let error = layer.route("https://API.example.com:443", cache(Mint::default())).unwrap_err();
    assert!(matches!(error, InvalidOrigin::Taken(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn unlisted_origins_may_be_sent_bare() {
    let api = Api::new();
    let cache = cache(Mint::default());
    let stack = layer(&cache).unlisted_origins(UnlistedOrigin::SendBare).layer(api.clone());
    send(&stack, get_from("https://evil.example/")).await.unwrap();
    send(&stack, get_from("/")).await.unwrap();
    assert_eq!(api.tokens(), ["-", "-"], "a 401 is returned as it is");

    // A named origin that the token may not go to is no unlisted one.
    let stack = BearerAuthLayer::from_cache(cache)
        .origin("http://plain.example")
        .unwrap()
        .unlisted_origins(UnlistedOrigin::SendBare)
        .layer(api.clone());
    send(&stack, get_from("http://plain.example/")).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_uri_without_authority_means_the_assumed_origin() {
    let api = Api::new();
    let stack = layer(&cache(Mint::default())).assume_origin(API).unwrap().layer(api.clone());
    send(&stack, get_from("/service/Method")).await.unwrap();
    assert_eq!(api.tokens(), ["t1"]);
    send(&stack, get_from("https://evil.example/service/Method")).await.unwrap_err();

    let unnamed =
        BearerAuthLayer::new(Mint::default()).assume_origin(API).unwrap().layer(api.clone());
    let error = send(&unnamed, get_from("/")).await.unwrap_err();
    assert!(matches!(refused(&error), Refused::NotNamed(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_redirect_followed_above_the_layer_leaks_nothing() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let inner = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let bearer = request.headers().get(AUTHORIZATION).cloned();
        log.lock().unwrap().push((request.uri().host().unwrap().to_owned(), bearer));
        let mut response = Response::new(Full::<Bytes>::default());
        if request.uri().host() == Some("api.example.com") {
            *response.status_mut() = http::StatusCode::FOUND;
            response.headers_mut().insert("location", "https://evil.example/".parse().unwrap());
        }
        async { Ok::<_, Infallible>(response) }
    });
    let auth = layer(&cache(Mint::default()));
    let follow = tower_http::follow_redirect::FollowRedirectLayer::new();

    let strict =
        ServiceBuilder::new().layer(follow.clone()).layer(auth.clone()).service(inner.clone());
    let error = strict.oneshot(get("/")).await.unwrap_err();
    assert!(matches!(refused(&error), Refused::NotNamed(_)));

    let bare = auth.unlisted_origins(UnlistedOrigin::SendBare);
    let bare = ServiceBuilder::new().layer(follow).layer(bare).service(inner);
    assert_eq!(bare.oneshot(get("/")).await.unwrap().status(), 200);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert_eq!((seen[2].0.as_str(), &seen[2].1), ("evil.example", &None));
}

#[tokio::test(start_paused = true)]
async fn own_authorization_and_skip_auth_pass_through_untouched() {
    let mint = Mint::default();
    let api = Api::new();
    let stack = layer(&cache(mint.clone())).layer(api.clone());
    let own = |uri| {
        let request = Request::get(uri).header(AUTHORIZATION, "Basic abc");
        request.body(Full::<Bytes>::default()).unwrap()
    };
    assert_eq!(send(&stack, own(API)).await.unwrap().status(), 401);
    send(&stack, own("https://unlisted.example/")).await.unwrap();
    let skip = Request::get(API).extension(SkipAuth).body(Full::<Bytes>::default()).unwrap();
    send(&stack, skip).await.unwrap();

    let seen = api.seen();
    assert_eq!(seen.len(), 3, "none was replayed");
    assert_eq!(seen[0].parts.headers[AUTHORIZATION], "Basic abc");
    assert!(!seen[2].parts.headers.contains_key(AUTHORIZATION));
    assert_eq!(mint.fetches(), 0);
}

// ===== 23 =====

#[tokio::test(start_paused = true)]
async fn any_rejection_renews_unless_its_challenge_says_that_a_new_token_would_not_help() {
    for (challenge, renews) in [
        ("Bearer error=\"invalid_token\"", true),
        ("Basic realm=\"api\"", true),
        ("", true),
        ("Bearer error=\"insufficient_scope\", scope=\"admin\"", false),
        ("Bearer error=\"insufficient_user_authentication\"", false),
        ("Bearer error=\"invalid_request\"", false),
        ("DPoP algs=\"ES256\"", false),
        ("Bearer, DPoP algs=\"ES256\"", true),
    ] {
        let mint = Mint::default();
        let api = Api::new();
        api.revoke("t1");
        api.challenge_with(challenge);
        let cache = cache(mint.clone());
        let stack = layer(&cache).layer(api.clone());
        let response = send(&stack, get("/")).await.unwrap();
        assert_eq!(response.status(), if renews { 200 } else { 401 }, "{challenge}");
        assert_eq!(mint.fetches(), if renews { 2 } else { 1 }, "{challenge}");
        assert!(!cache.status().is_suspect(), "{challenge}: the token is not to blame");
    }
}

#[tokio::test(start_paused = true)]
async fn a_challenge_that_no_new_token_satisfies_starts_no_renewal_in_the_background_either() {
    let mint = Mint::default();
    let api = Api::new();
    api.revoke("t1");
    api.challenge_with("Bearer error=\"insufficient_scope\"");
    let cache = cache(mint.clone());
    let stack = layer(&cache).no_replay().layer(api.clone());
    assert_eq!(send(&stack, get("/")).await.unwrap().status(), 401);
    let challenge = Challenge::new("Bearer").with_param("error", "invalid_request");
    cache.reject(Rejection::new(token("t1")).with_challenge(challenge));
    settle().await;
    assert_eq!((mint.fetches(), cache.status().is_suspect()), (1, false));
}

#[tokio::test(start_paused = true)]
async fn a_challenge_that_the_source_claims_to_satisfy_renews() {
    struct StepUp;
    impl TokenSource for StepUp {
        async fn fetch(&self, request: TokenRequest) -> Result<AccessToken, TokenError> {
            let scope = request.challenge().and_then(|challenge| challenge.param("scope"));
            Ok(token(scope.unwrap_or("plain")))
        }
        fn can_satisfy(&self, challenge: &Challenge) -> bool {
            challenge.param("error") == Some("insufficient_scope")
        }
    }
    let api = Api::new();
    api.revoke("plain");
    api.challenge_with("Bearer error=\"insufficient_scope\", scope=\"admin\"");
    let stack = layer(&cache(StepUp)).layer(api.clone());
    assert_eq!(send(&stack, get("/")).await.unwrap().status(), 200);
    assert_eq!(api.tokens(), ["plain", "admin"]);
}

#[tokio::test(start_paused = true)]
async fn rejected_when_says_what_counts_as_a_rejection() {
    let api = Api::new();
    api.respond_with_header("x-token", "stale");
    let stack = layer(&cache(Mint::default()))
        .rejected_when(|parts| parts.headers.contains_key("x-token"))
        .layer(api.clone());
    send(&stack, get("/")).await.unwrap();
    assert_eq!(api.tokens(), ["t1", "t2"]);
}

#[tokio::test(start_paused = true)]
async fn grpc_status_16_in_the_headers_is_a_rejection_with_grpc() {
    for (grpc, status, calls) in [(true, "16", 2), (true, "7", 1), (false, "16", 1)] {
        let api = Api::new();
        api.respond_with_header("grpc-status", status);
        let auth = layer(&cache(Mint::default()));
        let auth = if grpc { auth.grpc() } else { auth };
        send(&auth.layer(api.clone()), get("/")).await.unwrap();
        assert_eq!(api.seen().len(), calls, "{grpc} {status}");
    }
}
