//! An axum service whose handlers call a protected API through one stack, in its state.
//!
//! ```sh
//! cargo run --example stack_axum
//! ```

mod loopback;

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{Request, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Layer, ServiceExt};
use tower_bearer::{BearerAuth, BearerAuthLayer, BoxError, BufferBody, ReplayBody, TokenError};

/// The stack's type, for the state. Every clone shares one token and one pool of connections.
type Api = BearerAuth<Client<HttpConnector, Body>, BufferBody<fn(ReplayBody<Body>) -> Body>>;

#[derive(Clone)]
struct App {
    api: Api,
    api_origin: String,
}

/// Streams a body to the API, and the API's answer back.
async fn store(
    State(app): State<App>,
    Path(name): Path<String>,
    body: Body,
) -> Result<impl IntoResponse, Response> {
    let uri = format!("{}/reports/{name}", app.api_origin);
    let request = Request::post(uri).body(body);
    let request = request.map_err(|_| StatusCode::BAD_REQUEST.into_response())?;
    app.api.oneshot(request).await.map_err(|error| unavailable(&error))
}

/// Answers with 503 if there is no token, and otherwise with 502: neither is the caller's fault.
fn unavailable(error: &BoxError) -> Response {
    eprintln!("the call of the API failed: {error}");
    match TokenError::find_in(&**error) {
        Some(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        None => StatusCode::BAD_GATEWAY.into_response(),
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let tokens = loopback::Tokens::default();
    let token_origin = loopback::serve(loopback::token_service(&tokens)).await?;
    let api_origin = loopback::serve(loopback::protected_api(&tokens)).await?;

    let endpoint = loopback::endpoint(&format!("{token_origin}/token"))?;
    let api = BearerAuthLayer::new(endpoint)
        .origin(&api_origin)?
        .buffer_body(64 * 1024, Body::new as fn(ReplayBody<Body>) -> Body)
        .layer(Client::builder(TokioExecutor::new()).build_http());
    let app = Router::new().route("/{name}", post(store)).with_state(App { api, api_origin });
    let origin = loopback::serve(app).await?;

    for name in ["january", "february"] {
        let caller = reqwest::Client::new().post(format!("{origin}/{name}")).body("numbers");
        println!("{}", caller.send().await?.text().await?);
        // The API answers the next call with 401, which the layer hides.
        tokens.revoke();
    }
    println!("{} tokens were fetched", tokens.issued());
    Ok(())
}
