//! The client stack, as your program would build it.

use std::fmt::Display;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Service, ServiceBuilder, util::BoxCloneSyncService};
use tower_bearer::{
    BearerAuthLayer, BoxError, InvalidOrigin, RefreshPolicy, TokenCache, oauth2::TokenEndpoint,
};
use tower_http::trace::TraceLayer;

use crate::{
    load::count_send,
    token_service::{CLIENT_ID, CLIENT_SECRET},
};

/// The finished stack, boxed so that its type has a name.
pub(crate) type Stack = BoxCloneSyncService<Request<Full<Bytes>>, Response<Body>, BoxError>;

/// Tracing, then the token, then the client.
pub(crate) fn stack<S, B>(
    cache: TokenCache,
    origin: &str,
    client: S,
) -> Result<Stack, InvalidOrigin>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Display,
{
    let stack = ServiceBuilder::new()
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(TraceLayer::new_for_http())
        .layer(BearerAuthLayer::from_cache(cache).origin(origin)?)
        // Only for the report: counts how often the stack sends a call.
        .map_request(count_send)
        .service(client);
    Ok(BoxCloneSyncService::new(stack))
}

/// A cache for tokens of the token service on this machine.
pub(crate) fn local_cache(token_url: &str, policy: RefreshPolicy) -> Result<TokenCache, BoxError> {
    let endpoint = TokenEndpoint::builder(token_url)
        .client_id(CLIENT_ID)
        .client_secret(CLIENT_SECRET)
        .build()?;
    Ok(TokenCache::with_policy(endpoint, policy))
}

/// A client for the API on this machine. It uses HTTP/2, so that a thousand calls share one
/// connection and stay within the limit of open files.
pub(crate) fn local_client() -> Client<HttpConnector, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).http2_only(true).build(connector)
}
