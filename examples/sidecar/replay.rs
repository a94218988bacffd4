//! Sending with the token on, and with as much kept of each request as it was granted.

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

use crate::{connection::Asked, connector::Connector, held::Kept};

/// What an upstream's requests go through. It is built once; its clones share the token and the
/// connections.
pub(crate) type Stack = BearerAuth<Charged, BufferBody<fn(ReplayBody<Asked>) -> Body>>;

/// The client, with bodies that say how much of the reservation is still needed.
#[derive(Clone)]
pub(crate) struct Charged {
    client: Client<Connector, Body>,
}

/// Goes along with a request, and with what the layer keeps of it.
#[derive(Clone)]
struct Reserved(Arc<Kept>);

pub(crate) fn stack(layer: BearerAuthLayer, client: Client<Connector, Body>) -> Stack {
    // Each request says how much may be kept of it.
    layer.buffer_body(0, Body::new as fn(_) -> _).layer(Charged { client })
}

/// Sends a request of which so much is kept, or nothing.
pub(crate) async fn send(
    stack: &Stack,
    mut request: Request<Asked>,
    kept: Option<Kept>,
) -> Result<Response<Incoming>, BoxError> {
    // A request without a body is sent again too, and 0 would say that it is not.
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
