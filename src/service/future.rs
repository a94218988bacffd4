//! Drives an exchange over a tower service.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    detour::{Detour, Turn},
    replay::{KeptHead, Replay},
};
use crate::{
    error::BoxError,
    exchange::{Exchange, Next},
    rules::{Keep, ResponseHead, Rules},
};

pin_project! {
    /// The response future of [`BearerAuth`](super::BearerAuth).
    pub struct ResponseFuture<S, R, B>
    where
        R: Replay<B>,
        S: Service<Request<R::Body>>,
    {
        #[pin]
        step: Step<S::Future, Detour<S, R, B, S::Response>>,
        walk: Walk<S, R, B>,
    }
}

pin_project! {
    /// What is awaited. The future is moved for every request, so all but the call is boxed.
    #[project = StepProj]
    enum Step<F, D> {
        /// The inner service's response.
        Calling { #[pin] future: F },
        /// Something else; it is taken while it is polled, and at its end.
        Detour { detour: Option<Box<D>> },
    }
}

/// What goes along with a request that the inner service has.
pub(super) enum Walk<S, R: Replay<B>, B> {
    /// It passes untouched.
    Untouched,
    /// Nothing is kept of it: a rejection is the answer.
    Once(Exchange),
    /// It can be sent again.
    Twice(Box<Kept<S, R, B>>),
}

/// All that a second call needs.
pub(super) struct Kept<S, R: Replay<B>, B> {
    pub(super) exchange: Exchange,
    pub(super) head: KeptHead,
    pub(super) body: R::Kept,
    /// For the second call; not known to be ready.
    pub(super) service: S,
}

/// The request with its token, ready to be sent, and what goes along with it.
#[inline]
pub(super) fn set_out<S: Clone, R: Replay<B>, B>(
    exchange: Exchange,
    request: Request<B>,
    rules: &Rules,
    replay: &R,
    service: &S,
) -> (Request<R::Body>, Walk<S, R, B>) {
    if !R::KEEPS {
        return set_out_once(exchange, request, replay);
    }
    let (request, keep) = how_much_to_keep(request, rules);
    match keep {
        Keep::Nothing => set_out_once(exchange, request, replay),
        Keep::UpTo(limit) => set_out_twice(exchange, request, limit, replay, service),
    }
}

#[inline]
fn set_out_once<S, R: Replay<B>, B>(
    exchange: Exchange,
    mut request: Request<B>,
    replay: &R,
) -> (Request<R::Body>, Walk<S, R, B>) {
    let has_token = exchange.put(request.headers_mut());
    let walk = if has_token { Walk::Once(exchange) } else { Walk::Untouched };
    (request.map(|body| replay.pass(body)), walk)
}

#[inline]
fn set_out_twice<S: Clone, R: Replay<B>, B>(
    exchange: Exchange,
    mut request: Request<B>,
    limit: Option<usize>,
    replay: &R,
    service: &S,
) -> (Request<R::Body>, Walk<S, R, B>) {
    let head = KeptHead::of(&request);
    if !exchange.put(request.headers_mut()) {
        return (request.map(|body| replay.pass(body)), Walk::Untouched);
    }
    let (parts, body) = request.into_parts();
    let (body, kept) = replay.keep(body, limit);
    let walk = match kept {
        Some(body) => {
            Walk::Twice(Box::new(Kept { exchange, head, body, service: service.clone() }))
        }
        None => Walk::Once(exchange),
    };
    (Request::from_parts(parts, body), walk)
}

/// The request is taken apart only where a user's rule wants to see its head.
fn how_much_to_keep<B>(request: Request<B>, rules: &Rules) -> (Request<B>, Keep) {
    if rules.replay_if.is_none() {
        let keep = rules.keep(request.extensions(), None);
        return (request, keep);
    }
    let (parts, body) = request.into_parts();
    let keep = rules.keep(&parts.extensions, Some(&parts));
    (Request::from_parts(parts, body), keep)
}

// ===== impl Walk =====

impl<S, R: Replay<B>, B> Walk<S, R, B> {
    fn exchange(&self) -> Option<&Exchange> {
        match self {
            Self::Untouched => None,
            Self::Once(exchange) => Some(exchange),
            Self::Twice(kept) => Some(&kept.exchange),
        }
    }

    fn can_replay(&self) -> bool {
        match self {
            Self::Twice(kept) => R::can_restore(&kept.body),
            _ => false,
        }
    }

    /// Judges the response.
    #[inline]
    fn answered<ResBody>(&self, response: Response<ResBody>) -> (Response<ResBody>, Next) {
        let Some(exchange) = self.exchange() else { return (response, Next::Answer) };
        if !exchange.judges_parts() {
            let next = exchange.answered(&ResponseHead::of(&response), || self.can_replay());
            return (response, next);
        }
        let (parts, body) = response.into_parts();
        let next = exchange.answered(&ResponseHead::of_parts(&parts), || self.can_replay());
        (Response::from_parts(parts, body), next)
    }
}

// ===== impl ResponseFuture =====

impl<S, R, B> ResponseFuture<S, R, B>
where
    R: Replay<B>,
    S: Service<Request<R::Body>>,
{
    #[inline]
    pub(super) fn calling(future: S::Future, walk: Walk<S, R, B>) -> Self {
        Self { step: Step::Calling { future }, walk }
    }

    #[cold]
    pub(super) fn detour(detour: Detour<S, R, B, S::Response>) -> Self {
        Self { step: Step::Detour { detour: Some(Box::new(detour)) }, walk: Walk::Untouched }
    }
}

impl<S, R, B, ResBody> Future for ResponseFuture<S, R, B>
where
    R: Replay<B>,
    S: Service<Request<R::Body>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
{
    type Output = Result<Response<ResBody>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.step.as_mut().project() {
                StepProj::Calling { future } => {
                    let response = match ready!(future.poll(cx)) {
                        Ok(response) => response,
                        Err(error) => {
                            this.walk.exchange().into_iter().for_each(Exchange::broken);
                            return Poll::Ready(Err(error.into()));
                        }
                    };
                    let (response, next) = this.walk.answered(response);
                    // Either way the walk is over: what was kept is dropped, or goes on.
                    let walk = std::mem::replace(this.walk, Walk::Untouched);
                    let (Next::Renew(rejection), Walk::Twice(kept)) = (next, walk) else {
                        return Poll::Ready(Ok(response));
                    };
                    let detour = Some(Box::new(Detour::renewing(rejection, kept, response)));
                    this.step.set(Step::Detour { detour });
                }
                StepProj::Detour { detour } => match ready!(Detour::poll(detour, cx)) {
                    Turn::Done(result) => return Poll::Ready(result),
                    Turn::Called(future, walk) => {
                        *this.walk = walk;
                        this.step.set(Step::Calling { future });
                    }
                },
            }
        }
    }
}

impl<S, R, B> fmt::Debug for ResponseFuture<S, R, B>
where
    R: Replay<B>,
    S: Service<Request<R::Body>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
