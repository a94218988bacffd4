//! A service applies what it keeps from one request only to the requests that this is for. Each test
//! sends several requests through one service, and through clones of it.

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::Full;
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_bearer::{BearerAuth, BearerAuthLayer, Refused, SkipAuth};

use super::support::*;

type Sent = Result<Response<Full<Bytes>>, BoxError>;

/// Sends through this very service, and through a clone of it.
async fn send_both(stack: &mut BearerAuth<Api>, request: Request<Full<Bytes>>) -> [Sent; 2] {
    let through_clone = stack.clone().oneshot(request.clone()).await;
    [send_one(stack, request).await, through_clone]
}

async fn send_one(stack: &mut BearerAuth<Api>, request: Request<Full<Bytes>>) -> Sent {
    ServiceExt::<Request<Full<Bytes>>>::ready(stack).await?.call(request).await
}

/// A service that has been used for [`API`], and whose token is proven there.
async fn used(layer: BearerAuthLayer) -> (BearerAuth<Api>, Api) {
    let api = Api::new();
    let mut stack = layer.layer(api.clone());
    for _ in 0..3 {
        for sent in send_both(&mut stack, get("/")).await {
            assert_eq!(sent.unwrap().status(), 200);
        }
    }
    assert_eq!(api.tokens(), ["t1"; 6]);
    (stack, api)
}

#[tokio::test(start_paused = true)]
async fn each_origin_gets_its_own_token_from_one_service() {
    let other = Mint::default();
    other.always(token("other"));
    let layer = layer(&cache(Mint::default())).route("https://b.example", cache(other)).unwrap();
    let (mut stack, api) = used(layer).await;
    for _ in 0..2 {
        for uri in ["https://b.example/", API] {
            for sent in send_both(&mut stack, get_from(uri)).await {
                assert_eq!(sent.unwrap().status(), 200);
            }
        }
    }
    assert_eq!(api.tokens()[6..], ["other", "other", "t1", "t1", "other", "other", "t1", "t1"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_used_for_one_origin_refuses_others() {
    let (mut stack, api) = used(layer(&cache(Mint::default()))).await;
    for uri in ["http://api.example.com/", "https://evil.example/", "https://api.example.com:8443/"]
    {
        for sent in send_both(&mut stack, get_from(uri)).await {
            let error = sent.unwrap_err();
            assert!(matches!(error.downcast_ref(), Some(Refused::NotNamed(_))), "{uri}: {error}");
        }
    }
    assert_eq!(api.seen().len(), 6, "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_by_https_is_not_sent_in_plain_text() {
    let any = BearerAuthLayer::from_cache(cache(Mint::default())).any_https();
    let (mut stack, api) = used(any).await;
    for sent in send_both(&mut stack, get_from("http://api.example.com/")).await {
        let error = sent.unwrap_err();
        assert!(error.downcast_ref::<Refused>().is_some(), "{error}");
    }
    assert_eq!(api.seen().len(), 6, "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_origin_gets_no_token_from_a_service_that_was_used() {
    let (mut stack, api) = used(layer(&cache(Mint::default()))).await;
    for sent in send_both(&mut stack, get_from("/path")).await {
        let error = sent.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Refused::NoOrigin)), "{error}");
    }
    assert_eq!(api.seen().len(), 6, "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_skips_the_layer_is_bare_on_a_service_that_was_used() {
    let (mut stack, api) = used(layer(&cache(Mint::default()))).await;
    for _ in 0..2 {
        let mut request = get("/");
        request.extensions_mut().insert(SkipAuth);
        assert!(send_both(&mut stack, request).await.iter().all(Result::is_ok));
        let mut request = get("/");
        request.extensions_mut().insert("something else");
        assert!(send_both(&mut stack, request).await.iter().all(Result::is_ok));
    }
    assert_eq!(api.tokens()[6..], ["-", "-", "t1", "t1", "-", "-", "t1", "t1"]);
}

#[tokio::test(start_paused = true)]
async fn credentials_that_a_request_brings_stay_as_they_are_on_a_service_that_was_used() {
    let (mut stack, api) = used(layer(&cache(Mint::default()))).await;
    for own in [&["Basic YTpi"][..], &["Basic YTpi", "Digest x"]] {
        let mut request = get("/");
        for value in own {
            request.headers_mut().append(AUTHORIZATION, value.parse().unwrap());
        }
        request.headers_mut().append("accept", "text/plain".parse().unwrap());
        assert!(send_both(&mut stack, request).await.iter().all(Result::is_ok));
        for seen in &api.seen()[api.seen().len() - 2..] {
            let sent: Vec<_> = seen.parts.headers.get_all(AUTHORIZATION).iter().collect();
            assert_eq!(sent, own, "untouched");
            assert!(seen.parts.headers.contains_key("accept"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_proven_token_is_renewed_when_grpc_or_a_users_rule_rejects_it() {
    for layer in [
        layer(&cache(Mint::default())).grpc(),
        layer(&cache(Mint::default()))
            .rejected_when(|parts| parts.headers.get("grpc-status").is_some()),
    ] {
        let (mut stack, api) = used(layer).await;
        api.respond_with_header("grpc-status", "16");
        let sent = send_one(&mut stack, get("/")).await.unwrap();
        assert_eq!(sent.status(), 200);
        assert_eq!(api.tokens()[6..], ["t1", "t2"]);
    }
}
