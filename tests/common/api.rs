//! The tests' API in memory: it rejects revoked tokens, and remembers what it was sent.
#![allow(dead_code, reason = "no test needs all of it")]

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{
    Request, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use http_body_util::{BodyExt, Full};
use tokio::sync::Notify;
use tower::{BoxError, Service};

/// What one request looked like when it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) bearer: Option<String>,
    pub(crate) parts: http::request::Parts,
    pub(crate) body: Bytes,
}

/// An inner service that rejects revoked tokens, and that fails the test if it is called
/// without having been polled ready.
pub(crate) struct Api {
    shared: Arc<Shared>,
    ready: bool,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    revoked: Mutex<HashSet<String>>,
    rejects_all: Mutex<bool>,
    challenge: Mutex<Option<String>>,
    extra: Mutex<HashMap<&'static str, String>>,
    /// Requests wait here while the gate is closed.
    gate: Mutex<Option<Arc<Notify>>>,
    waiting: AtomicUsize,
    reserved: AtomicUsize,
}

impl Api {
    pub(crate) fn new() -> Self {
        Self { shared: Arc::default(), ready: false }
    }

    pub(crate) fn revoke(&self, secret: &str) {
        self.shared.revoked.lock().unwrap().insert(secret.to_owned());
    }

    pub(crate) fn accept_again(&self, secret: &str) {
        self.shared.revoked.lock().unwrap().remove(secret);
    }

    pub(crate) fn reject_all(&self, rejects: bool) {
        *self.shared.rejects_all.lock().unwrap() = rejects;
    }

    pub(crate) fn challenge_with(&self, challenge: &str) {
        *self.shared.challenge.lock().unwrap() = Some(challenge.to_owned());
    }

    pub(crate) fn respond_with_header(&self, name: &'static str, value: &str) {
        self.shared.extra.lock().unwrap().insert(name, value.to_owned());
    }

    pub(crate) fn close_gate(&self) {
        *self.shared.gate.lock().unwrap() = Some(Arc::default());
    }

    pub(crate) fn open_gate(&self) {
        if let Some(gate) = self.shared.gate.lock().unwrap().take() {
            gate.notify_waiters();
        }
    }

    /// How many requests stand at the gate.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.waiting.load(SeqCst)
    }

    /// How many clones have been polled ready and not been called.
    pub(crate) fn reserved(&self) -> usize {
        self.shared.reserved.load(SeqCst)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The tokens of all requests so far, in order; `-` for none.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.bearer.unwrap_or("-".into())).collect()
    }
}

impl Clone for Api {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), ready: false }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if self.ready {
            self.shared.reserved.fetch_sub(1, SeqCst);
        }
    }
}

impl<B> Service<Request<B>> for Api
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug> + Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Full<Bytes>>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if !std::mem::replace(&mut self.ready, true) {
            self.shared.reserved.fetch_add(1, SeqCst);
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been polled ready");
        self.shared.reserved.fetch_sub(1, SeqCst);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
            Ok(shared.answer(parts, body).await)
        })
    }
}

impl Shared {
    async fn answer(&self, parts: http::request::Parts, body: Bytes) -> Response<Full<Bytes>> {
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            let opened = gate.notified();
            self.waiting.fetch_add(1, SeqCst);
            opened.await;
            self.waiting.fetch_sub(1, SeqCst);
        }
        let line = parts.headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap());
        let bearer = line.and_then(|line| line.strip_prefix("Bearer ")).map(str::to_owned);
        let is_good = bearer.as_ref().is_some_and(|bearer| {
            !*self.rejects_all.lock().unwrap() && !self.revoked.lock().unwrap().contains(bearer)
        });
        self.seen.lock().unwrap().push(Seen { bearer, parts, body });

        let mut response = Response::builder();
        for (name, value) in self.extra.lock().unwrap().iter() {
            response = response.header(*name, value);
        }
        if is_good {
            return response.body(Full::from("welcome")).unwrap();
        }
        if let Some(challenge) = self.challenge.lock().unwrap().as_deref() {
            response = response.header(WWW_AUTHENTICATE, challenge);
        }
        response.status(StatusCode::UNAUTHORIZED).body(Full::from("who are you?")).unwrap()
    }
}
