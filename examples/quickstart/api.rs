//! An API that requires a valid token and echoes the body of each call.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{
        HeaderMap, StatusCode, Uri,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
    routing::post,
};
use tokio::{sync::watch, time::sleep};

use crate::{
    gate::Gate,
    serve::serve,
    timeline::{Event, Timeline},
    token_service::TokenService,
};

/// A handle; every clone is the same API.
#[derive(Clone)]
pub(crate) struct Api {
    shared: Arc<Shared>,
    /// Scheme, host and port.
    pub(crate) origin: Arc<str>,
}

struct Shared {
    tokens: TokenService,
    timeline: Timeline,
    /// The network delay that the API simulates for each call.
    delay: Duration,
    gate: Gate,
    counts: watch::Sender<Counts>,
    /// Calls that the API answered with 401 and that have not arrived again.
    rejected: Mutex<HashSet<Bytes>>,
}

/// What the API has seen so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) arrived: u64,
    /// Calls that arrived again after a 401.
    pub(crate) replayed: u64,
    /// The highest number of an accepted token.
    pub(crate) newest_token: u64,
}

impl Api {
    pub(crate) async fn start(
        tokens: TokenService,
        delay: Duration,
        timeline: Timeline,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            tokens,
            timeline,
            delay,
            gate: Gate::new(),
            counts: watch::Sender::default(),
            rejected: Mutex::default(),
        });
        let router = Router::new().route("/echo", post(answer)).with_state(Arc::clone(&shared));
        let address = serve(router).await?;
        Ok(Self { shared, origin: format!("http://{address}").into() })
    }

    /// The URI to post calls to. The body of each call must be unique: it identifies the call.
    pub(crate) fn uri(&self) -> Uri {
        format!("{}/echo", self.origin).parse().expect("an address and a path are a URI")
    }

    /// While this gate is closed, the API holds calls that have arrived, before it checks their
    /// tokens.
    pub(crate) fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.shared.counts.borrow()
    }

    /// Waits until the counts meet `condition`.
    pub(crate) async fn reached(&self, condition: impl FnMut(&Counts) -> bool) {
        let mut counts = self.shared.counts.subscribe();
        counts.wait_for(condition).await.expect("the counts are still there");
    }
}

impl Shared {
    fn arrived(&self, call: &Bytes) {
        let again = self.rejected().remove(call);
        self.counts.send_modify(|counts| {
            counts.arrived += 1;
            counts.replayed += u64::from(again);
        });
    }

    fn accepted(&self, token: u64) {
        self.counts.send_modify(|counts| counts.newest_token = counts.newest_token.max(token));
    }

    fn rejected(&self) -> MutexGuard<'_, HashSet<Bytes>> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, call: Bytes) -> Response {
    if !shared.delay.is_zero() {
        sleep(shared.delay).await;
    }
    shared.arrived(&call);
    shared.gate.pass().await;
    let token = bearer(&headers).and_then(|token| shared.tokens.introspect(token));
    let Some(token) = token else {
        shared.rejected().insert(call);
        shared.timeline.mark(Event::Rejected);
        let challenge = [(WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#)];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    };
    shared.accepted(token);
    call.into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}
