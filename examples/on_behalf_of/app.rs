//! The service. Yours may look much like it.
//!
//! **It validates nothing.** It takes its caller's bearer token for the user's and passes it to the
//! token service, which refuses an invalid token at each exchange. Between two exchanges the cache
//! serves any caller with the same token. So put a middleware above these handlers, as in every
//! service that accepts bearer tokens. It must validate the signature, issuer, audience and expiry
//! (RFC 9068 §4) of each request's token, or ask the token service about it (RFC 7662). No part of
//! `tower-bearer` does that.

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, Request, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Layer, ServiceExt};
use tower_bearer::{
    BearerAuth, BearerAuthLayer, BufferBody, InvalidOrigin, KeyedTokenCache, ReplayBody, Subject,
    TokenKey,
};

use crate::answer;

/// All clones share the users' tokens and one pool of connections.
type Api = BearerAuth<Client<HttpConnector, Body>, BufferBody<fn(ReplayBody<Body>) -> Body>>;

#[derive(Clone)]
struct App {
    api: Api,
    api_origin: String,
    tokens: KeyedTokenCache,
}

/// `GET /{name}` calls the API on behalf of the caller, `POST /logout` forgets the caller's tokens.
pub(crate) fn router(tokens: KeyedTokenCache, api_origin: &str) -> Result<Router, InvalidOrigin> {
    let api = BearerAuthLayer::from_cache(&tokens)
        .origin(api_origin)?
        // A handler that omits the subject gets an error, not the service's own token.
        .require_subject()
        .buffer_body(64 * 1024, Body::new as fn(ReplayBody<Body>) -> Body)
        .layer(Client::builder(TokioExecutor::new()).build_http());
    let app = App { api, api_origin: api_origin.to_owned(), tokens };
    Ok(Router::new().route("/{name}", get(ask)).route("/logout", post(log_out)).with_state(app))
}

/// Calls the API on behalf of the caller.
async fn ask(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let user = Subject::from_headers(&headers).map_err(|why| answer::no_subject(&why))?;
    let request = Request::get(format!("{}/{name}", app.api_origin))
        .extension(TokenKey::new().on_behalf_of(user))
        .body(Body::empty())
        .map_err(|_| StatusCode::BAD_REQUEST.into_response())?;
    let response = app.api.oneshot(request).await.map_err(|error| answer::failed(&*error))?;
    Ok(answer::passed_on(response.map(Body::new)))
}

/// Forgets the tokens for this login, including those in flight. The login itself stays valid until
/// the token service ends it.
async fn log_out(State(app): State<App>, headers: HeaderMap) -> Result<StatusCode, Response> {
    let user = Subject::from_headers(&headers).map_err(|why| answer::no_subject(&why))?;
    app.tokens.forget_subject(&user);
    Ok(StatusCode::NO_CONTENT)
}
