//! A token service that grants client credentials (RFC 6749 §4.4).

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Form, Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::json;
use tokio::{sync::watch, time::sleep};

use crate::{
    gate::Gate,
    serve::serve,
    timeline::{Event, Timeline},
};

pub(crate) const CLIENT_ID: &str = "quickstart";
pub(crate) const CLIENT_SECRET: &str = "not-a-secret";
/// The `Authorization` value with these credentials.
pub(crate) const BASIC: &str = "Basic cXVpY2tzdGFydDpub3QtYS1zZWNyZXQ=";

/// How long the service takes to answer: long enough that a call that waits for it stands out.
pub(crate) const ANSWERS_AFTER: Duration = Duration::from_millis(120);

/// A handle; every clone is the same service.
#[derive(Clone)]
pub(crate) struct TokenService {
    shared: Arc<Shared>,
    pub(crate) url: Arc<str>,
}

struct Shared {
    gate: Gate,
    counts: watch::Sender<Counts>,
    timeline: Timeline,
    book: Mutex<Book>,
}

/// What the service has done so far.
#[derive(Clone, Copy)]
pub(crate) struct Counts {
    /// The number of issued tokens. The first token has the number 1.
    pub(crate) issued: u64,
    /// Requests that the service answered with 503.
    pub(crate) refused: u64,
}

struct Book {
    is_down: bool,
    lifetime: Duration,
    /// The valid tokens, with their numbers and expiry times.
    valid: HashMap<String, (u64, Instant)>,
}

impl TokenService {
    pub(crate) async fn start(timeline: Timeline) -> io::Result<Self> {
        let book =
            Book { is_down: false, lifetime: Duration::from_secs(3600), valid: HashMap::new() };
        let shared = Arc::new(Shared {
            gate: Gate::new(),
            counts: watch::Sender::new(Counts { issued: 0, refused: 0 }),
            timeline,
            book: Mutex::new(book),
        });
        let router = Router::new().route("/token", post(answer)).with_state(Arc::clone(&shared));
        let address = serve(router).await?;
        Ok(Self { shared, url: format!("http://{address}/token").into() })
    }

    /// While this gate is closed, the service holds its answers.
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

    /// Sets the lifetime of later tokens, in whole seconds.
    pub(crate) fn set_lifetime(&self, lifetime: Duration) {
        self.shared.book().lifetime = lifetime;
    }

    pub(crate) fn set_down(&self, is_down: bool) {
        self.shared.book().is_down = is_down;
        self.shared.timeline.mark(if is_down { Event::Down } else { Event::Up });
    }

    /// Revokes every token that the service has issued.
    pub(crate) fn revoke_all(&self) {
        self.shared.book().valid.clear();
        self.shared.timeline.mark(Event::Revoked);
    }

    /// The number of a token if it is valid. A real API would use token introspection (RFC 7662).
    pub(crate) fn introspect(&self, token: &str) -> Option<u64> {
        let (number, end) = *self.shared.book().valid.get(token)?;
        (Instant::now() < end).then_some(number)
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new token and its lifetime in seconds; `None` while the service is down.
    fn issue(&self) -> Option<(String, u64)> {
        let mut book = self.book();
        if book.is_down {
            self.timeline.mark(Event::Refused);
            self.counts.send_modify(|counts| counts.refused += 1);
            return None;
        }
        let number = self.counts.borrow().issued + 1;
        let (token, lifetime) = (format!("demonstration-{number}"), book.lifetime);
        book.valid.insert(token.clone(), (number, Instant::now() + lifetime));
        self.timeline.mark(Event::Fetched);
        self.counts.send_modify(|counts| counts.issued = number);
        Some((token, lifetime.as_secs()))
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    if headers.get(AUTHORIZATION).is_none_or(|basic| basic != BASIC) {
        return refuse(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    if form.get("grant_type").is_none_or(|grant| grant != "client_credentials") {
        return refuse(StatusCode::BAD_REQUEST, "unsupported_grant_type");
    }
    shared.gate.pass().await;
    sleep(ANSWERS_AFTER).await;
    match shared.issue() {
        Some((token, expires_in)) => Json(json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": expires_in,
        }))
        .into_response(),
        None => refuse(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
    }
}

fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}
