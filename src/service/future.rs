//! Drives an exchange over a tower service.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response, request};
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

/// Puts the token on the request, and says what goes along with it.
#[inline]
pub(super) fn set_out<S: Clone, R: Replay<B>, B>(
    exchange: Exchange,
    request: &mut Request<B>,
    keep: Keep,
    replay: &R,
    service: &S,
) -> Walk<S, R, B> {
    let Keep::UpTo(limit) = keep else { return set_out_once(exchange, request) };
    let Some(body) = replay.keep(request.body(), limit) else {
        return set_out_once(exchange, request);
    };
    // Made where it stays: to move it would take longer than to fill it.
    let service = service.clone();
    let mut kept = Box::new(Kept { exchange, head: KeptHead::new(request), body, service });
    kept.head.keep_headers(request.headers());
    if kept.exchange.put(request.headers_mut()) { Walk::Twice(kept) } else { Walk::Untouched }
}

#[inline]
fn set_out_once<S, R: Replay<B>, B>(exchange: Exchange, request: &mut Request<B>) -> Walk<S, R, B> {
    if exchange.put(request.headers_mut()) { Walk::Once(exchange) } else { Walk::Untouched }
}

/// How much of the request may be kept.
#[inline]
pub(super) fn how_much_to_keep<R: Replay<B>, B>(request: &mut Request<B>, rules: &Rules) -> Keep {
    if !R::KEEPS {
        Keep::Nothing
    } else if rules.replay_if.is_none() {
        rules.keep(request.extensions(), None)
    } else {
        with_parts(request, |parts| rules.keep(&parts.extensions, Some(parts)))
    }
}

/// Shows the whole head of a request to a user's rule. It is lent, not copied.
#[cold]
fn with_parts<B, T>(request: &mut Request<B>, look: impl FnOnce(&request::Parts) -> T) -> T {
    let (mut parts, ()) = Request::new(()).into_parts();
    let mut swap = |parts: &mut request::Parts| {
        mem::swap(&mut parts.method, request.method_mut());
        mem::swap(&mut parts.uri, request.uri_mut());
        mem::swap(&mut parts.version, request.version_mut());
        mem::swap(&mut parts.headers, request.headers_mut());
        mem::swap(&mut parts.extensions, request.extensions_mut());
    };
    swap(&mut parts);
    let seen = look(&parts);
    swap(&mut parts);
    seen
}

// ===== impl Walk =====

impl<S, R: Replay<B>, B> Walk<S, R, B> {
    /// What is kept of the body.
    #[inline]
    pub(super) fn kept(&self) -> Option<&R::Kept> {
        match self {
            Self::Twice(kept) => Some(&kept.body),
            _ => None,
        }
    }

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
                        let walk = mem::replace(this.walk, Walk::Untouched);
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
