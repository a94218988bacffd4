//! Sending with the token on, and with a limit of its own for what is kept of the request.

use std::sync::Arc;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use tower::{Layer, ServiceExt};
use tower_bearer::{BearerAuthLayer, BoxError};

use crate::{connection::Asked, connector::Connector, held::Kept};

/// Sends a request of which that is kept, or nothing. The limit is the layer's own, so that a
/// layer is built for each request.
pub(crate) async fn send(
    layer: &BearerAuthLayer,
    client: Client<Connector, Body>,
    request: Request<Asked>,
    kept: Option<Arc<Kept>>,
) -> Result<Response<Incoming>, BoxError> {
    let layer = layer.clone();
    let Some(kept) = kept else {
        return layer.no_replay().layer(client).oneshot(request.map(Body::new)).await;
    };
    let service =
        layer.buffer_body(kept.limit(), move |body| Body::new(kept.hold(body))).layer(client);
    service.oneshot(request).await
}
