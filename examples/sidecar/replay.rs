//! Sends requests through the layer, which keeps as much of each body as was reserved for it.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, ResponseFuture};
use tower::{Layer, Service, ServiceExt};
use tower_bearer::{BearerAuth, BearerAuthLayer, BoxError, BufferBody, ReplayBody, ReplayLimit};

use crate::{connection::RequestBody, connector::Connector, held::Kept};

/// The services that an upstream's requests go through. The clones of one stack share the token and
/// the connections.
pub(crate) type Stack = BearerAuth<Charged, BufferBody<fn(ReplayBody<RequestBody>) -> Body>>;

/// The HTTP client, with bodies that release the reservation when they no longer need it.
#[derive(Clone)]
pub(crate) struct Charged {
    client: Client<Connector, Body>,
}

/// A request's extension: the layer keeps it together with the body.
#[derive(Clone)]
struct Reserved(Arc<Kept>);

pub(crate) fn stack(layer: BearerAuthLayer, client: Client<Connector, Body>) -> Stack {
    // Each request has its own limit: see `send`.
    layer.buffer_body(0, Body::new as fn(_) -> _).layer(Charged { client })
}

/// Sends a request. The layer keeps as much of it as `kept` allows, or nothing.
pub(crate) async fn send(
    stack: &Stack,
    mut request: Request<RequestBody>,
    kept: Option<Kept>,
) -> Result<Response<Incoming>, BoxError> {
    // At least 1: the limit 0 would also turn off the replay of a request without a body.
    let limit = ReplayLimit(kept.as_ref().map_or(0, |kept| kept.limit().max(1)));
    request.extensions_mut().insert(limit);
    if let Some(kept) = kept {
        request.extensions_mut().insert(Reserved(Arc::new(kept)));
    }
    stack.clone().oneshot(request).await
}

// ===== impl Charged =====

impl Service<Request<Body>> for Charged {
    type Response = Response<Incoming>;
    type Error = hyper_util::client::legacy::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<Body>>::poll_ready(&mut self.client, cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let reserved = request.extensions_mut().remove::<Reserved>();
        self.client.request(match reserved {
            Some(Reserved(kept)) => request.map(|body| Body::new(kept.hold(body))),
            None => request,
        })
    }
}
