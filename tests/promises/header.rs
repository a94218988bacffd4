//! A token in another header than `Authorization`, or with another scheme.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_bearer::{BearerAuthLayer, InvalidTokenHeader, Refused, TokenHeader};

use crate::support::*;

/// What an API that rejects `t1` with `status` has seen, and the answer's status.
async fn walk(
    layer: &BearerAuthLayer,
    status: u16,
    request: Request<Full<Bytes>>,
) -> (Vec<HeaderMap>, Result<u16, BoxError>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let api = service_fn(move |request: Request<Full<Bytes>>| {
        let is_rejected = request.headers().values().any(|value| {
            value.to_str().is_ok_and(|text| text.split(' ').next_back() == Some("t1"))
        });
        log.lock().unwrap().push(request.headers().clone());
        let status = if is_rejected { status } else { 200 };
        let response = Response::builder().status(status).body(Full::<Bytes>::default());
        async { Ok::<_, Infallible>(response.unwrap()) }
    });
    let answer = layer.layer(api).oneshot(request).await;
    let seen = seen.lock().unwrap().clone();
    (seen, answer.map(|response| response.status().as_u16()))
}

fn with_header(name: &str, value: &str) -> Request<Full<Bytes>> {
    Request::get(API).header(name, value).body(Full::default()).unwrap()
}

fn carrying(header: &str) -> BearerAuthLayer {
    layer(&cache(Mint::default())).header(header).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_token_in_another_header_is_renewed_after_a_401_and_sent_again() {
    let (seen, answer) = walk(&carrying("X-Api-Key"), 401, get("/")).await;
    assert_eq!(answer.unwrap(), 200);
    let keys: Vec<_> = seen.iter().map(|headers| &headers["x-api-key"]).collect();
    assert_eq!(keys, ["t1", "t2"]);
    assert!(keys.iter().all(|key| key.is_sensitive()));
    assert!(seen.iter().all(|headers| !headers.contains_key("authorization")));
}

#[tokio::test(start_paused = true)]
async fn a_scheme_of_ones_own_stands_before_both_tokens() {
    let header = TokenHeader::new("Authorization").unwrap().with_scheme("GenieKey").unwrap();
    let layer = layer(&cache(Mint::default())).header(header).unwrap();
    let (seen, answer) = walk(&layer, 401, get("/")).await;
    assert_eq!(answer.unwrap(), 200);
    let values: Vec<_> = seen.iter().map(|headers| &headers["authorization"]).collect();
    assert_eq!(values, ["GenieKey t1", "GenieKey t2"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_proxy_rejects_by_407_is_renewed_and_a_401_is_the_apis_own() {
    let (seen, answer) = walk(&carrying("Proxy-Authorization"), 407, get("/")).await;
    assert_eq!(answer.unwrap(), 200);
    let values: Vec<_> = seen.iter().map(|headers| &headers["proxy-authorization"]).collect();
    assert_eq!(values, ["Bearer t1", "Bearer t2"]);

    let (seen, answer) = walk(&carrying("Proxy-Authorization"), 401, get("/")).await;
    assert_eq!(answer.unwrap(), 401);
    assert_eq!(seen.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_with_that_header_passes_untouched_and_one_with_authorization_does_not() {
    let (seen, _) = walk(&carrying("X-Api-Key"), 401, with_header("x-api-key", "own")).await;
    assert_eq!(seen[0].get_all("x-api-key").iter().collect::<Vec<_>>(), ["own"]);

    let (seen, _) =
        walk(&carrying("X-Api-Key"), 401, with_header("authorization", "Basic x")).await;
    assert_eq!(seen[1]["authorization"], "Basic x");
    assert_eq!(seen[1]["x-api-key"], "t2");
}

#[tokio::test(start_paused = true)]
async fn another_header_goes_to_the_named_origins_alone() {
    let request = Request::get("https://evil.example/").body(Full::default()).unwrap();
    let (seen, answer) = walk(&carrying("X-Api-Key"), 401, request).await;
    assert!(seen.is_empty());
    assert!(matches!(answer.unwrap_err().downcast_ref(), Some(Refused::NotNamed(_))));
}

#[test]
fn a_header_that_can_carry_no_token_is_an_error_of_the_builder() {
    let refused = |header: &str| layer(&cache(Mint::default())).header(header).unwrap_err();
    assert_eq!(refused("X Api Key"), InvalidTokenHeader::Name);
    assert!(matches!(refused("Host"), InvalidTokenHeader::Reserved(_)));
}
