//! The service: one request at a time.

mod detour;
mod future;
mod replay;

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use self::{
    detour::Detour,
    future::{Walk, set_out},
};
pub use self::{
    future::ResponseFuture,
    replay::{BufferBody, CloneBody, KeptBody, NoReplay, Replay, ReplayBody},
};
use crate::{
    error::BoxError,
    exchange::Exchange,
    rules::{Admission, RequestHead, Rules},
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
    rules: Arc<Rules>,
    replay: R,
}

// ===== impl BearerAuth =====

impl<S, R> BearerAuth<S, R> {
    pub(crate) fn new(inner: S, rules: Arc<Rules>, replay: R) -> Self {
        Self { inner, rules, replay }
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
        let (request, walk) = match self.rules.ready_for(request.uri(), request.extensions()) {
            Some(pass) => {
                set_out(Exchange::new(pass), request, &self.rules, &self.replay, &self.inner)
            }
            None => match self.admit(request) {
                Ok(admitted) => admitted,
                Err(detour) => return ResponseFuture::detour(detour),
            },
        };
        ResponseFuture::calling(self.inner.call(request), walk)
    }
}

impl<S: Clone, R> BearerAuth<S, R> {
    /// The request as it is to be sent now, unless it cannot be.
    #[cold]
    fn admit<B, Res>(
        &mut self,
        request: Request<B>,
    ) -> Result<(Request<R::Body>, Walk<S, R, B>), Detour<S, R, B, Res>>
    where
        R: Replay<B>,
    {
        let admission = self.rules.admit(&RequestHead::of(&request));
        match admission {
            Admission::Ready(pass) => {
                Ok(set_out(Exchange::new(pass), request, &self.rules, &self.replay, &self.inner))
            }
            Admission::Untouched => Ok((self.replay.pass(request), Walk::Untouched)),
            Admission::Waiting(waiting) => {
                let (rules, replay) = (Arc::clone(&self.rules), self.replay.clone());
                self.let_go();
                Err(Detour::waiting(waiting, request, rules, replay, self.inner.clone()))
            }
            Admission::Refused(refused) => {
                self.let_go();
                Err(Detour::Failed(refused.into()))
            }
            Admission::Failed(error) => {
                self.let_go();
                Err(Detour::Failed(error.into()))
            }
        }
    }

    /// Gives back what `poll_ready` has reserved: a permit, a place in a queue.
    fn let_go(&mut self) {
        let unready = self.inner.clone();
        drop(std::mem::replace(&mut self.inner, unready));
    }
}

impl<S: fmt::Debug, R: fmt::Debug> fmt::Debug for BearerAuth<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerAuth")
            .field("inner", &self.inner)
            .field("rules", &self.rules)
            .field("replay", &self.replay)
            .finish()
    }
}
