//! `reqwest::Client` as the innermost service.

use axum::{Router, response::Redirect, routing::get};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use reqwest::redirect::Policy;
use tower::{Layer, ServiceExt};
use tower_bearer::{BearerAuthLayer, BoxError, oauth2::ReqwestService, testing};

use crate::{
    loopback::{self, Tokens},
    world::{World, bounded},
};

fn reqwest(redirects: Policy) -> ReqwestService {
    ReqwestService::new(reqwest::Client::builder().redirect(redirects).build().unwrap())
}

/// An API whose `/moved` redirects to another host, which wants other tokens.
async fn moved() -> (World, Tokens) {
    let (tokens, others) = (Tokens::default(), Tokens::default());
    let other = loopback::serve(loopback::protected_api(&others)).await.unwrap();
    let away = get(move || async move { Redirect::temporary(&other) });
    let api = Router::new().route("/moved", away).merge(loopback::protected_api(&tokens));
    (World::with_api(tokens, api).await, others)
}

#[tokio::test]
async fn a_body_that_streams_is_sent_again_with_the_new_token() {
    let world = testing::World::start().await.unwrap();
    let layer = BearerAuthLayer::new(world.tokens().endpoint().build().unwrap());
    let layer = layer.origin(world.api().origin()).unwrap();
    let layer = layer.buffer_body(64 * 1024, reqwest::Body::wrap);
    let stack = layer.layer(reqwest(Policy::none()));
    for token in ["t-1", "t-2"] {
        let frames = ["a ", "long ", "report"]
            .map(|part| Ok::<_, BoxError>(Frame::data(Bytes::from_static(part.as_bytes()))));
        let body = StreamBody::new(stream::iter(frames));
        let request = Request::post(world.api().url("/reports")).body(body).unwrap();
        let response = bounded(stack.clone().oneshot(request)).await.unwrap();
        assert_eq!(response.headers()["echo-token"], token);
        let text = reqwest::Response::from(response).text().await.unwrap();
        assert_eq!(text, "a long report");
        world.revoke_all();
    }
    assert_eq!((world.api().accepted(), world.api().rejected()), (2, 1));
}

#[tokio::test]
async fn a_client_that_follows_no_redirect_returns_it() {
    let (world, others) = moved().await;
    let stack = world.layer().layer(reqwest(Policy::none()));
    let response = bounded(stack.oneshot(world.get("/moved"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert!(others.shown().is_empty());
}

#[tokio::test]
async fn a_401_from_the_host_that_a_redirect_led_to_is_no_rejection() {
    let (world, others) = moved().await;
    let stack = world.layer().layer(reqwest(Policy::default()));
    let response = bounded(stack.clone().oneshot(world.get("/moved"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(others.shown(), ["none"], "the token does not follow, and nothing is sent again");
    // A renewal in the background would be waited for.
    assert_eq!(bounded(world.cache.get()).await.unwrap().secret(), "t1");
    assert_eq!(world.tokens.issued(), 1);
}

#[tokio::test]
async fn a_401_behind_a_redirect_on_the_same_host_is_a_rejection() {
    let tokens = Tokens::default();
    let away = get(async || Redirect::temporary("/here"));
    let api = Router::new().route("/moved", away).merge(loopback::protected_api(&tokens));
    let world = World::with_api(tokens, api).await;
    let stack = world.layer().layer(reqwest(Policy::default()));
    world.cache.get().await.unwrap();
    world.tokens.revoke();
    let response = bounded(stack.oneshot(world.get("/moved"))).await.unwrap();
    assert_eq!(loopback::text(response).await.unwrap(), "GET /here with t2: ");
    assert_eq!(world.tokens.shown(), ["t1", "t2"]);
}
