//! The service: one request at a time.

mod detour;
mod future;
mod inner;
mod placed;
mod replay;
mod walk;

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use self::{
    detour::Detour,
    walk::{Walk, how_much_to_keep, set_out},
};
pub use self::{
    future::ResponseFuture,
    inner::InnerService,
    replay::{BufferBody, CloneBody, KeptBody, NoReplay, Replay, ReplayBody},
};
use crate::{
    error::BoxError,
    exchange::Exchange,
    rules::{Admission, Destination, Recent, RequestHead, Rules, Waiting},
};

/// The service of a [`BearerAuthLayer`](crate::BearerAuthLayer).
///
/// # Clone
///
/// The inner service must be `Clone`, because the response future needs one of its own: for the
/// replay, and for a request that waits for its token, which releases the service that was made
/// ready for it. The future polls the clone ready before it calls it.
///
/// # What the compiler says
///
/// `the method … exists for struct BearerAuth<…>, but its trait bounds were not satisfied` means that
/// the inner service does not take the request that you call it with:
///
/// | the inner service | do this |
/// | --- | --- |
/// | a bare `reqwest::Client`, which takes reqwest's own requests | wrap it: `oauth2::ReqwestService::new(client)` (feature `reqwest`) |
/// | is not `Clone` | derive it, or wrap it in `tower::buffer::Buffer` |
/// | takes requests with another body (hyper-util's `Client<_, Full<Bytes>>` takes `Request<Full<Bytes>>` alone) | give the request that body |
/// | after [`buffer_body`](crate::BearerAuthLayer::buffer_body), takes another body than `wrap` makes | give it a `wrap` that makes the body that the service takes |
/// | answers with something other than an `http::Response` | map that with `tower::util::MapResponse` |
/// | has an error that cannot become a `Box<dyn Error + Send + Sync>` | map that with `tower::util::MapErr` |
///
/// Write the method as a function, `ServiceExt::oneshot(service, request)`, and the compiler names
/// the bound that does not hold. If it cannot infer the body, see [calling a
/// stack](crate#calling-a-stack).
///
/// # Error
///
/// The error is boxed, as in tower's own middleware. It is a [`TokenError`](crate::TokenError) if
/// there is no token, a [`Refused`](crate::Refused) if no token may go with the request, and
/// otherwise the inner service's error. [`TokenError::find_in`](crate::TokenError::find_in) and
/// [`Refused::find_in`](crate::Refused::find_in) recover it, also above other layers.
#[derive(Clone)]
pub struct BearerAuth<S, R = CloneBody> {
    inner: S,
    rules: Arc<Rules>,
    recent: Recent,
    replay: R,
}

// ===== impl BearerAuth =====

impl<S, R> BearerAuth<S, R> {
    pub(crate) fn new(inner: S, rules: Arc<Rules>, replay: R) -> Self {
        Self { inner, rules, recent: Recent::default(), replay }
    }

    /// A reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// A mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Takes the inner service out.
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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let (rules, extensions) = (&self.rules, request.extensions());
        let look_up = |destination: Destination<'_>| rules.ready(destination, extensions);
        let pass = match self.recent.ready(request.uri(), extensions, look_up) {
            Some(pass) => Some(pass),
            None => match self.rules.admit(&RequestHead::of(&request)) {
                Admission::Ready(pass) => Some(pass),
                Admission::Untouched => None,
                Admission::Waiting(waiting) => return self.wait(waiting, request),
                Admission::Refused(refused) => return self.fail(refused.into()),
                Admission::Failed(error) => return self.fail(error.into()),
            },
        };
        let walk = match pass {
            None => Walk::Untouched,
            Some(pass) => {
                let keep = how_much_to_keep::<R, B>(&mut request, &self.rules);
                set_out(Exchange::new(pass), &mut request, keep, &self.replay, &self.inner)
            }
        };
        let request = self.replay.pass(request, walk.kept());
        ResponseFuture::calling(self.inner.call(request), walk)
    }
}

impl<S, R> BearerAuth<S, R> {
    #[cold]
    fn wait<B>(&mut self, waiting: Waiting, request: Request<B>) -> ResponseFuture<S, R, B>
    where
        R: Replay<B>,
        S: Service<Request<R::Body>> + Clone,
    {
        let (rules, replay) = (Arc::clone(&self.rules), self.replay.clone());
        self.let_go();
        let detour = Detour::waiting(waiting, request, rules, replay, self.inner.clone());
        ResponseFuture::detour(detour)
    }

    #[cold]
    fn fail<B>(&mut self, error: BoxError) -> ResponseFuture<S, R, B>
    where
        R: Replay<B>,
        S: Service<Request<R::Body>> + Clone,
    {
        self.let_go();
        ResponseFuture::detour(Detour::Failed(error))
    }

    /// Releases what `poll_ready` reserved: a permit, a place in a queue.
    fn let_go(&mut self)
    where
        S: Clone,
    {
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
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
