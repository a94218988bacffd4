//! The API that the requests go to: it may revoke tokens.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use tokio::{sync::Barrier, time::sleep};
use tower_bearer_benches::Body;
use tower_service::Service;

use crate::token_service::nth;

/// A clone is another handle.
#[derive(Clone, Debug)]
pub(crate) struct Api(Arc<State>);

#[derive(Debug)]
struct State {
    revocation: Option<Revocation>,
    calls: AtomicUsize,
}

/// The first token is revoked while so many requests with it are in flight.
#[derive(Debug)]
struct Revocation {
    in_flight: Barrier,
    rejected: AtomicUsize,
    spread: Duration,
}

/// The challenge of a 401.
pub(crate) const CHALLENGE: &str = r#"Bearer error="invalid_token""#;

impl Api {
    /// Accepts every token.
    pub(crate) fn new() -> Self {
        Self(Arc::new(State { revocation: None, calls: AtomicUsize::new(0) }))
    }

    /// Rejects the first token as soon as so many requests carry it, all at once or one after
    /// another over some time.
    pub(crate) fn revoking(in_flight: usize, spread: Duration) -> Self {
        let revocation = Revocation {
            in_flight: Barrier::new(in_flight),
            rejected: AtomicUsize::new(0),
            spread,
        };
        Self(Arc::new(State { revocation: Some(revocation), calls: AtomicUsize::new(0) }))
    }

    pub(crate) fn calls(&self) -> usize {
        self.0.calls.load(Relaxed)
    }

    /// The answer to a request with that `Authorization`.
    pub(crate) async fn judge(&self, header: Option<usize>) -> StatusCode {
        self.0.calls.fetch_add(1, Relaxed);
        let token = header.expect("a peer has sent a request without its token");
        match &self.0.revocation {
            Some(revocation) if token == 0 => {
                revocation.in_flight.wait().await;
                let rejected = revocation.rejected.fetch_add(1, Relaxed);
                let share = rejected as f64 / 1000.0;
                sleep(revocation.spread.mul_f64(share)).await;
                StatusCode::UNAUTHORIZED
            }
            _ => StatusCode::OK,
        }
    }
}

impl Service<Request<Body>> for Api {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<()>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let api = self.clone();
        let token = request.headers().get(AUTHORIZATION).and_then(|value| nth(value.as_bytes()));
        Box::pin(async move {
            let mut response = Response::new(());
            *response.status_mut() = api.judge(token).await;
            if response.status() == StatusCode::UNAUTHORIZED {
                let challenge = HeaderValue::from_static(CHALLENGE);
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            Ok(response)
        })
    }
}
