//! Drives an exchange over a tower service.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    detour::{Detour, Turn},
    replay::Replay,
    walk::Walk,
};
use crate::{
    error::BoxError,
    exchange::{Exchange, Next},
    rules::ResponseHead,
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
    /// What the future waits for. Each request moves the future, so everything but the call is
    /// boxed.
    #[project = StepProj]
    enum Step<F, D> {
        /// The inner service's response.
        Calling { #[pin] future: F },
        /// Something else. A poll takes it out and puts back what comes next.
        Detour { detour: Option<Box<D>> },
    }
}

/// Judges the response.
#[cold]
fn answered<S, R: Replay<B>, B, ResBody>(
    walk: Walk<S, R, B>,
    response: Response<ResBody>,
) -> Answered<S, R, B, ResBody> {
    let Some(exchange) = walk.exchange() else { return Answered::Over(response) };
    let can_replay = || match &walk {
        Walk::Twice(kept) => R::can_restore(&kept.body),
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
    match (next, walk) {
        (Next::Renew(rejection), Walk::Twice(kept)) => {
            Answered::Renewing(Box::new(Detour::renewing(rejection, kept, response)))
        }
        _ => Answered::Over(response),
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
                        match answered(walk, response) {
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
