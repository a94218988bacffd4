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
    (replay.pass(request), walk)
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
        return (replay.pass(request), Walk::Untouched);
    }
    let (request, kept) = replay.keep(request, limit);
    let walk = match kept {
        Some(body) => {
            Walk::Twice(Box::new(Kept { exchange, head, body, service: service.clone() }))
        }
        None => Walk::Once(exchange),
    };
    (request, walk)
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
    #[inline]
    fn exchange(&self) -> Option<&Exchange> {
        match self {
            Self::Untouched => None,
            Self::Once(exchange) => Some(exchange),
            Self::Twice(kept) => Some(&kept.exchange),
        }
    }

    /// Whether the response says nothing new, so that the walk is over: what was kept is dropped.
    #[inline]
    fn ends_with<ResBody>(&mut self, response: &Response<ResBody>) -> bool {
        let is_granted = |exchange: &Exchange| exchange.takes_for_granted(response.status());
        match self {
            Self::Untouched => true,
            Self::Once(exchange) => is_granted(exchange),
            Self::Twice(kept) if is_granted(&kept.exchange) => {
                *self = Self::Untouched;
                true
            }
            Self::Twice(_) => false,
        }
    }

    /// Judges the response.
    #[cold]
    fn answered<ResBody>(self, response: Response<ResBody>) -> Answered<S, R, B, ResBody> {
        let Some(exchange) = self.exchange() else { return Answered::Over(response) };
        let can_replay = || match &self {
            Self::Twice(kept) => R::can_restore(&kept.body),
            _ => false,
        };
        let (response, next) = if exchange.judges_parts() {
            let (parts, body) = response.into_parts();
            let next = exchange.answered(&ResponseHead::of_parts(&parts), can_replay);
            (Response::from_parts(parts, body), next)
        } else {
            let next = exchange.answered(&ResponseHead::of(&response), can_replay);
            (response, next)
        };
        match (next, self) {
            (Next::Renew(rejection), Self::Twice(kept)) => {
                Answered::Renewing(Box::new(Detour::renewing(rejection, kept, response)))
            }
            _ => Answered::Over(response),
        }
    }
}

/// What a response leads to.
enum Answered<S, R: Replay<B>, B, ResBody> {
    Over(Response<ResBody>),
    Renewing(Box<Detour<S, R, B, Response<ResBody>>>),
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
                StepProj::Calling { future } => match ready!(future.poll(cx)) {
                    Ok(response) if this.walk.ends_with(&response) => {
                        return Poll::Ready(Ok(response));
                    }
                    Ok(response) => {
                        let walk = std::mem::replace(this.walk, Walk::Untouched);
                        match walk.answered(response) {
                            Answered::Over(response) => return Poll::Ready(Ok(response)),
                            Answered::Renewing(detour) => {
                                this.step.set(Step::Detour { detour: Some(detour) });
                            }
                        }
                    }
                    Err(error) => {
                        this.walk.exchange().into_iter().for_each(Exchange::broken);
                        return Poll::Ready(Err(error.into()));
                    }
                },
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
