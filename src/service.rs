//! The service: one request at a time.

mod future;
mod replay;

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, header::AUTHORIZATION};
use tower_service::Service;

use self::future::Errand;
pub use self::{
    future::ResponseFuture,
    replay::{BufferBody, CloneBody, KeptBody, NoReplay, Replay, ReplayBody},
};
use crate::{
    cache::Asked,
    error::BoxError,
    layer::{Config, Destination},
};

/// The service of a [`BearerAuthLayer`](crate::BearerAuthLayer).
///
/// # Clone
///
/// The inner service has to be `Clone`, because the response future needs one of its own: for
/// the replay, and for a request that has to wait for its token, which lets go of the service
/// that was made ready for it. The clone is polled ready before it is called.
///
/// # Error
///
/// The error is boxed, as in tower's own middleware. If no token could be had it is a
/// [`TokenError`](crate::TokenError), if none may go there a [`Refused`](crate::Refused), else
/// it is the inner service's; `downcast_ref` tells.
#[derive(Clone)]
pub struct BearerAuth<S, R = CloneBody> {
    inner: S,
    config: Arc<Config>,
    replay: R,
}

/// A request extension: this request passes untouched.
///
/// ```
/// use tower_bearer::SkipAuth;
///
/// let request = http::Request::get("https://api.example.com/public").extension(SkipAuth).body(());
/// # request.unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SkipAuth;

// ===== impl BearerAuth =====

impl<S, R> BearerAuth<S, R> {
    pub(crate) fn new(inner: S, config: Arc<Config>, replay: R) -> Self {
        Self { inner, config, replay }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service, to be changed.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service alone.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, R, B, ResBody> Service<Request<B>> for BearerAuth<S, R>
where
    R: Replay<B>,
    S: Service<Request<R::Body>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = Response<ResBody>;
    type Error = BoxError;
    type Future = ResponseFuture<S, R, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let config = Arc::clone(&self.config);
        let target = match destination(&config, &request) {
            Destination::Known(target) => target,
            Destination::Unlisted => {
                let request = request.map(|body| self.replay.pass(body));
                return ResponseFuture::bare(self.inner.call(request));
            }
            Destination::Refused(refused) => {
                self.let_go();
                return ResponseFuture::failed(refused.into());
            }
        };
        let asked = target.cache.ask();
        let mut errand = Errand::new(config, self.replay.clone(), target);
        match asked {
            Asked::Token(token) => {
                let request = errand.prepare(request, token);
                if errand.may_replay() {
                    errand.service = Some(self.inner.clone());
                }
                ResponseFuture::calling(self.inner.call(request), errand)
            }
            Asked::Wait(wait) => {
                self.let_go();
                errand.service = Some(self.inner.clone());
                ResponseFuture::waiting(wait, request, errand)
            }
            Asked::Error(error) => {
                self.let_go();
                ResponseFuture::failed(error.into())
            }
        }
    }
}

impl<S: Clone, R> BearerAuth<S, R> {
    /// Gives back what `poll_ready` has reserved: a permit, a place in a queue.
    fn let_go(&mut self) {
        let unready = self.inner.clone();
        drop(std::mem::replace(&mut self.inner, unready));
    }
}

fn destination<B>(config: &Config, request: &Request<B>) -> Destination {
    let passes = request.headers().contains_key(AUTHORIZATION)
        || request.extensions().get::<SkipAuth>().is_some();
    if passes { Destination::Unlisted } else { config.destination(request.uri()) }
}

impl<S: fmt::Debug, R: fmt::Debug> fmt::Debug for BearerAuth<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerAuth")
            .field("inner", &self.inner)
            .field("config", &self.config)
            .field("replay", &self.replay)
            .finish()
    }
}
