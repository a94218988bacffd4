use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    response::Response,
    routing::get,
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Layer, ServiceExt};
use tower_bearer::{
    BearerAuth, BearerAuthLayer, BoxError, BufferBody, ReplayBody, TokenError,
    oauth2::TokenEndpoint,
};

type HttpsClient = Client<HttpsConnector<HttpConnector>, Body>;
type Api = BearerAuth<HttpsClient, BufferBody<fn(ReplayBody<Body>) -> Body>>;

async fn invoices(State(api): State<Api>) -> Result<Response, StatusCode> {
    let request = Request::get(url!("https://api.example.com/v1/invoices")).body(Body::empty());
    let request = request.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    match api.oneshot(request).await {
        // It is about this service's token, not about its caller's.
        Ok(response) if response.status() == StatusCode::UNAUTHORIZED => Err(StatusCode::BAD_GATEWAY),
        Ok(response) => Ok(response.map(Body::new)),
        Err(error) if TokenError::find_in(&*error).is_some() => Err(StatusCode::SERVICE_UNAVAILABLE),
        Err(_) => Err(StatusCode::BAD_GATEWAY),
    }
}

fn app(endpoint: TokenEndpoint) -> Result<Router, BoxError> {
    let connector =
        HttpsConnectorBuilder::new().with_native_roots()?.https_only().enable_http1().build();
    let api: Api = BearerAuthLayer::new(endpoint)
        .origin(url!("https://api.example.com"))?
        .buffer_body(64 * 1024, Body::new as fn(ReplayBody<Body>) -> Body)
        .layer(Client::builder(TokioExecutor::new()).build(connector));
    Ok(Router::new().route("/invoices", get(invoices)).with_state(api))
}
