//! An axum service whose handlers call a protected API through one stack in its state.

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{Request, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::future::join_all;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};
use tower_bearer::{
    BearerAuth, BearerAuthLayer, BufferBody, ReplayBody, TokenCache, TokenError,
    testing::{Failure, World},
};

use crate::{loopback, world::bounded};

type Api = BearerAuth<Client<HttpConnector, Body>, BufferBody<fn(ReplayBody<Body>) -> Body>>;

#[derive(Clone)]
struct App {
    api: Api,
    origin: String,
}

async fn store(State(app): State<App>, Path(name): Path<String>, body: Body) -> Response {
    let request = Request::post(format!("{}/{name}", app.origin)).body(body).unwrap();
    match app.api.oneshot(request).await {
        Ok(response) => response.into_response(),
        Err(error) if error.is::<TokenError>() => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

async fn serve(cache: TokenCache, api: &str) -> String {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let layer = BearerAuthLayer::from_cache(cache).origin(api).unwrap();
    let layer = layer.buffer_body(1024, Body::new as fn(ReplayBody<Body>) -> Body);
    let app = App { api: layer.layer(client), origin: api.to_owned() };
    loopback::serve(Router::new().route("/{name}", post(store)).with_state(app)).await.unwrap()
}

#[tokio::test]
async fn handlers_share_one_token_and_the_body_of_their_caller_is_sent_again() {
    let world = World::start().await.unwrap();
    let cache = TokenCache::new(world.tokens().endpoint().build().unwrap());
    let app = serve(cache, &world.api().origin()).await;
    let caller = reqwest::Client::new();
    for token in ["t-1", "t-2"] {
        let calls = (0..20).map(|n| {
            let call = caller.post(format!("{app}/{n}")).body(format!("report {n}"));
            async move {
                let response = call.send().await.unwrap();
                assert_eq!(response.headers()["echo-token"], token);
                assert_eq!(response.headers()["echo-path"], format!("/{n}"));
                assert_eq!(response.text().await.unwrap(), format!("report {n}"));
            }
        });
        bounded(join_all(calls)).await;
        world.revoke_all();
    }
    assert_eq!(world.tokens().fetches(), 2);
}

#[tokio::test]
async fn a_failed_fetch_is_distinguished_from_an_api_that_cannot_be_reached() {
    let caller = reqwest::Client::new();
    let status =
        async |app: String| bounded(caller.post(format!("{app}/1")).send()).await.unwrap().status();

    let world = World::start().await.unwrap();
    let cache = || TokenCache::new(world.tokens().endpoint().build().unwrap());
    world.tokens().fail(Failure::OAuth("invalid_client"));
    let app = serve(cache(), &world.api().origin()).await;
    assert_eq!(status(app).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.api().calls(), 0);
    world.tokens().recover();

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    assert_eq!(status(serve(cache(), &nowhere).await).await, StatusCode::BAD_GATEWAY);
}
