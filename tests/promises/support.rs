//! A token service and an API that do what the test says, when it says so.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{
    Request, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use http_body_util::{BodyExt, Full};
use tokio::sync::{Notify, mpsc, oneshot};
use tower::{BoxError, Service, ServiceExt};
use tower_bearer::{
    AccessToken, BearerAuthLayer, RefreshPolicy, RefreshPolicyBuilder, TokenCache, TokenError,
    TokenRequest, TokenSource,
};

pub(crate) use crate::log::Log;

pub(crate) const S: Duration = Duration::from_secs(1);
pub(crate) const API: &str = "https://api.example.com";

pub(crate) fn token(secret: &str) -> AccessToken {
    AccessToken::new(secret).unwrap()
}

pub(crate) fn busy() -> TokenError {
    TokenError::transient("busy")
}

pub(crate) fn invalid_client() -> TokenError {
    TokenError::permanent("invalid_client")
}

/// A policy without jitter and without further attempts, so that one failure is one fetch.
pub(crate) fn exact() -> RefreshPolicyBuilder {
    RefreshPolicy::builder().attempts(1).due_jitter(0.0).pause_jitter(0.0)
}

pub(crate) fn cache(source: impl TokenSource) -> TokenCache {
    TokenCache::with_policy(source, exact().build().unwrap())
}

/// Lets everything that can run do so, without time passing.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

// ===== A source that the test answers =====

/// Each fetch appears as a [`Call`] at the [`Desk`] and waits for its answer.
pub(crate) struct Manual(mpsc::UnboundedSender<Call>);

pub(crate) struct Desk {
    calls: mpsc::UnboundedReceiver<Call>,
}

pub(crate) struct Call {
    pub(crate) request: TokenRequest,
    reply: oneshot::Sender<Result<AccessToken, TokenError>>,
}

pub(crate) fn manual() -> (Manual, Desk) {
    let (sender, calls) = mpsc::unbounded_channel();
    (Manual(sender), Desk { calls })
}

impl TokenSource for Manual {
    async fn fetch(&self, request: TokenRequest) -> Result<AccessToken, TokenError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Call { request, reply }).map_err(|_| TokenError::permanent("no desk"))?;
        answer.await.map_err(|_| TokenError::permanent("no answer"))?
    }
}

impl Desk {
    /// The next fetch, as soon as there is one.
    pub(crate) async fn next(&mut self) -> Call {
        let call = tokio::time::timeout(3600 * S, self.calls.recv()).await;
        call.expect("no fetch within an hour").expect("the source is gone")
    }

    /// Nothing has been fetched that was not taken by [`next`](Self::next).
    pub(crate) async fn assert_idle(&mut self) {
        settle().await;
        assert!(self.calls.try_recv().is_err(), "there is a fetch");
    }
}

impl Call {
    pub(crate) fn answer(self, secret: &str) {
        self.reply(Ok(token(secret)));
    }

    pub(crate) fn reply(self, reply: Result<AccessToken, TokenError>) {
        drop(self.reply.send(reply));
    }

    /// Whether the cache has dropped the fetch.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

// ===== A source that mints tokens =====

/// Answers at once: `t1`, `t2`, … What it does otherwise can be changed at any time.
#[derive(Clone, Default)]
pub(crate) struct Mint {
    inner: Arc<MintInner>,
}

#[derive(Default)]
struct MintInner {
    fetches: AtomicUsize,
    lifetime: Mutex<Option<Duration>>,
    error: Mutex<Option<TokenError>>,
    always: Mutex<Option<AccessToken>>,
}

impl Mint {
    pub(crate) fn living(lifetime: Duration) -> Self {
        let mint = Self::default();
        *mint.inner.lifetime.lock().unwrap() = Some(lifetime);
        mint
    }

    pub(crate) fn fail_with(&self, error: impl Into<Option<TokenError>>) {
        *self.inner.error.lock().unwrap() = error.into();
    }

    pub(crate) fn always(&self, token: AccessToken) {
        *self.inner.always.lock().unwrap() = Some(token);
    }

    pub(crate) fn fetches(&self) -> usize {
        self.inner.fetches.load(SeqCst)
    }
}

impl TokenSource for Mint {
    async fn fetch(&self, _: TokenRequest) -> Result<AccessToken, TokenError> {
        let nth = self.inner.fetches.fetch_add(1, SeqCst) + 1;
        if let Some(error) = self.inner.error.lock().unwrap().clone() {
            return Err(error);
        }
        if let Some(token) = self.inner.always.lock().unwrap().clone() {
            return Ok(token);
        }
        let token = token(&format!("t{nth}"));
        Ok(match *self.inner.lifetime.lock().unwrap() {
            Some(lifetime) => token.with_lifetime(lifetime),
            None => token,
        })
    }
}

// ===== An API =====

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

// ===== Requests =====

pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("{API}{path}")).body(Full::default()).unwrap()
}

pub(crate) fn get_from(origin: &str) -> Request<Full<Bytes>> {
    Request::get(origin).body(Full::default()).unwrap()
}

/// The layer on that cache, for [`API`].
pub(crate) fn layer(cache: &TokenCache) -> BearerAuthLayer {
    BearerAuthLayer::from_cache(cache.clone()).origin(API).unwrap()
}

/// Sends one request through a clone of the stack.
pub(crate) async fn send<St, B, R>(stack: &St, request: Request<B>) -> Result<Response<R>, BoxError>
where
    St: Service<Request<B>, Response = Response<R>, Error = BoxError> + Clone,
{
    stack.clone().oneshot(request).await
}
