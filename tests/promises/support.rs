//! What the tests of the promises have in common: a source that the test answers, callers, requests,
//! runtimes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::Full;
use tokio::{
    runtime::{self, Runtime},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tower::{BoxError, Service, ServiceExt, limit::ConcurrencyLimit};
use tower_bearer::{
    AccessToken, BearerAuthLayer, RefreshPolicy, RefreshPolicyBuilder, Rejection, TokenCache,
    TokenError, TokenRequest, TokenSource,
};

pub(crate) use crate::{api::Api, log::Log, mint::Mint};

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

/// Another request takes the one permit of the inner service, and has arrived if the gate is closed.
pub(crate) async fn take_permit(limited: ConcurrencyLimit<Api>) {
    let other: Request<Full<Bytes>> = get("/takes-the-permit");
    drop(tokio::spawn(limited.oneshot(other)));
    settle().await;
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

    /// Lets the cache fetch its first token, which is this one.
    pub(crate) async fn fill(&mut self, cache: &TokenCache, token: AccessToken) {
        assert!(cache.get().now_or_never().is_none());
        self.next().await.reply(Ok(token));
        settle().await;
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

// ===== Callers =====

/// A caller that gets a token, on a task of its own.
pub(crate) fn ask(cache: &TokenCache) -> JoinHandle<Result<AccessToken, TokenError>> {
    let cache = cache.clone();
    tokio::spawn(async move { cache.get().await })
}

/// A caller that renews a token, on a task of its own.
pub(crate) fn renew(
    cache: &TokenCache,
    rejection: Rejection,
) -> JoinHandle<Result<AccessToken, TokenError>> {
    let cache = cache.clone();
    tokio::spawn(async move { cache.renew(rejection).await })
}

// ===== Requests =====

pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("{API}{path}")).body(Full::default()).unwrap()
}

pub(crate) fn get_from(uri: &str) -> Request<Full<Bytes>> {
    Request::get(uri).body(Full::default()).unwrap()
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

// ===== Runtimes =====

pub(crate) fn a_runtime() -> Runtime {
    runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A runtime on which time passes only when every task waits for it.
pub(crate) fn paused() -> Runtime {
    runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

// ===== User code that looks at the cache =====

/// An error that looks at the cache when it is shown and when it is dropped.
pub(crate) struct Nosy {
    cache: TokenCache,
    dropped: Arc<AtomicUsize>,
}

impl Nosy {
    /// `dropped` counts the errors that were dropped.
    pub(crate) fn new(cache: &TokenCache, dropped: &Arc<AtomicUsize>) -> Self {
        Self { cache: cache.clone(), dropped: Arc::clone(dropped) }
    }

    fn look(&self) {
        drop(self.cache.status());
        drop(self.cache.current());
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.look();
        self.dropped.fetch_add(1, SeqCst);
    }
}

impl fmt::Debug for Nosy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.look();
        f.write_str("nosy")
    }
}

impl fmt::Display for Nosy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Nosy {}

/// Fails if the work takes longer than 30 s. With the cache's lock held, it would wait for itself.
pub(crate) fn bounded(work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    is_done.recv_timeout(30 * S).expect("a lock is held while user code runs");
}
