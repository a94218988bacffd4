//! The way of one request, as a state machine.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt, future::BoxFuture};
use http::{Request, Response, header::AUTHORIZATION, request};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_service::Service;

use super::replay::Replay;
use crate::{
    cache::Wait,
    error::{BoxError, TokenError},
    layer::Config,
    observe::{self, Replay as Outcome},
    target::Target,
    token::AccessToken,
};

type Fetched = Result<AccessToken, TokenError>;

pin_project! {
    /// The response future of [`BearerAuth`](super::BearerAuth).
    pub struct ResponseFuture<S, R, B>
    where
        R: Replay<B>,
        S: Service<Request<R::Body>>,
    {
        #[pin]
        step: Step<S::Future, S::Response, B, R::Body>,
        // What the request needs on its way; `None` for one that passes untouched.
        errand: Option<Errand<S, R, B>>,
    }
}

pin_project! {
    /// What is awaited. Each value that a step is left with is taken once, on leaving it; it is
    /// boxed, because all steps but `Calling` are rare and the future is moved for every request.
    #[project = StepProj]
    enum Step<F, Res, B, W> {
        /// Nothing: there was nothing to send.
        Failed { error: Option<BoxError> },
        /// The cache: the first token. The inner service is not held ready meanwhile.
        Waiting { token: BoxFuture<'static, Fetched>, request: Option<Box<Request<B>>> },
        /// The inner service's readiness, for the first call or the second.
        Readying { request: Option<Box<Request<W>>> },
        /// The inner service's response.
        Calling { #[pin] future: F },
        /// The cache: another token than the one that was rejected by this response.
        Renewing { token: BoxFuture<'static, Fetched>, response: Option<Box<Res>> },
        /// The body of the first call, which the inner service still has.
        Restoring {
            token: AccessToken,
            response: Option<Box<Res>>,
            limit: Option<Pin<Box<Sleep>>>,
        },
    }
}

/// What one request carries along.
pub(super) struct Errand<S, R: Replay<B>, B> {
    config: Arc<Config>,
    replay: R,
    target: Target,
    /// For what is still to be called; not known to be ready.
    pub(super) service: Option<S>,
    /// What the request that is on its way carries.
    token: Option<AccessToken>,
    /// For the second call; `None` once that is made, or if there can be none.
    kept: Option<Box<Kept<R, B>>>,
    /// Whether what is on its way, or about to be, is the second call.
    is_replay: bool,
}

struct Kept<R: Replay<B>, B> {
    parts: request::Parts,
    body: R::Kept,
}

// ===== impl Errand =====

impl<S, R: Replay<B>, B> Errand<S, R, B> {
    pub(super) fn new(config: Arc<Config>, replay: R, target: Target) -> Self {
        Self { config, replay, target, service: None, token: None, kept: None, is_replay: false }
    }

    /// The request with the token, for the first call.
    pub(super) fn prepare(&mut self, request: Request<B>, token: AccessToken) -> Request<R::Body> {
        let (parts, body) = request.into_parts();
        let body = if self.config.may_replay(&parts) {
            let (body, kept) = self.replay.keep(body);
            self.kept = kept.map(|body| Box::new(Kept { parts: parts.clone(), body }));
            body
        } else {
            self.replay.pass(body)
        };
        self.put(token, parts, body)
    }

    pub(super) fn may_replay(&self) -> bool {
        self.kept.is_some()
    }

    fn put<W>(&mut self, token: AccessToken, mut parts: request::Parts, body: W) -> Request<W> {
        parts.headers.insert(AUTHORIZATION, token.header_value().clone());
        self.token = Some(token);
        Request::from_parts(parts, body)
    }

    /// What is to be sent again, once the inner service has let go of it; `None` if that cannot
    /// be, or takes too long.
    fn poll_restore(
        &mut self,
        limit: &mut Option<Pin<Box<Sleep>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(request::Parts, R::Body)>> {
        let kept = self.kept.as_mut().expect("who replays has kept something");
        if let Poll::Ready(body) = R::poll_restore(&mut kept.body, cx) {
            let kept = self.kept.take();
            self.is_replay = true;
            return Poll::Ready(kept.map(|kept| kept.parts).zip(body));
        }
        let wait = self.target.cache.wait_limit();
        let limit = limit.get_or_insert_with(|| Box::pin(sleep(wait)));
        limit.as_mut().poll(cx).map(|()| None)
    }

    fn replay_ended(&self, outcome: Outcome) {
        if self.is_replay {
            observe::replayed(&self.target, outcome);
        }
    }

    /// Drops what is kept: there will be no second call.
    fn settle(&mut self) {
        self.kept = None;
        self.service = None;
    }

    /// The service has been called: it is kept only if it may be called again.
    fn called(&mut self) {
        if !self.may_replay() {
            self.service = None;
        }
    }

    /// The response, and a renewal to wait for, unless the response is the answer.
    fn judge<ResBody>(
        &mut self,
        response: Response<ResBody>,
    ) -> (Response<ResBody>, Option<BoxFuture<'static, Fetched>>) {
        let token = self.token.as_ref().expect("a request was sent with a token");
        let (parts, body) = response.into_parts();
        let verdict = self.target.verdict(&self.config, token, &parts);
        let response = Response::from_parts(parts, body);
        let Some(rejection) = verdict else {
            self.replay_ended(Outcome::Answered);
            self.settle();
            return (response, None);
        };
        if !self.may_replay() {
            self.replay_ended(Outcome::Rejected);
            self.target.cache.reject(rejection);
            return (response, None);
        }
        let cache = self.target.cache.clone();
        (response, Some(async move { cache.renew(rejection).await }.boxed()))
    }
}

// ===== impl ResponseFuture =====

impl<S, R, B> ResponseFuture<S, R, B>
where
    R: Replay<B>,
    S: Service<Request<R::Body>>,
{
    pub(super) fn failed(error: BoxError) -> Self {
        Self { step: Step::Failed { error: Some(error) }, errand: None }
    }

    pub(super) fn bare(future: S::Future) -> Self {
        Self { step: Step::Calling { future }, errand: None }
    }

    pub(super) fn calling(future: S::Future, errand: Errand<S, R, B>) -> Self {
        Self { step: Step::Calling { future }, errand: Some(errand) }
    }

    pub(super) fn waiting(wait: Wait, request: Request<B>, errand: Errand<S, R, B>) -> Self {
        let cache = errand.target.cache.clone();
        let token = async move { cache.wait(wait).await }.boxed();
        Self {
            step: Step::Waiting { token, request: Some(Box::new(request)) },
            errand: Some(errand),
        }
    }
}

impl<S, R, B, ResBody> Future for ResponseFuture<S, R, B>
where
    R: Replay<B>,
    S: Service<Request<R::Body>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<Response<ResBody>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.step.as_mut().project() {
                StepProj::Failed { error } => return Poll::Ready(Err(taken(error))),
                StepProj::Waiting { token, request } => {
                    let token = ready!(token.poll_unpin(cx))?;
                    let request = present(this.errand).prepare(*taken(request), token);
                    Step::Readying { request: Some(Box::new(request)) }
                }
                StepProj::Readying { request } => {
                    let service = present(this.errand).service.as_mut();
                    let service = service.expect("kept for this call");
                    ready!(service.poll_ready(cx)).map_err(Into::into)?;
                    let future = service.call(*taken(request));
                    present(this.errand).called();
                    Step::Calling { future }
                }
                StepProj::Calling { future } => {
                    let response = ready!(future.poll(cx)).map_err(Into::into);
                    let Some(errand) = this.errand else { return Poll::Ready(response) };
                    let response =
                        response.inspect_err(|_| errand.replay_ended(Outcome::Failed))?;
                    let (response, renewal) = errand.judge(response);
                    let Some(token) = renewal else { return Poll::Ready(Ok(response)) };
                    Step::Renewing { token, response: Some(Box::new(response)) }
                }
                StepProj::Renewing { token, response } => match ready!(token.poll_unpin(cx)) {
                    Ok(token) => Step::Restoring { token, response: response.take(), limit: None },
                    Err(error) => {
                        observe::renewal_failed(&error);
                        present(this.errand).settle();
                        return Poll::Ready(Ok(*taken(response)));
                    }
                },
                StepProj::Restoring { token, response, limit } => {
                    let errand = present(this.errand);
                    let Some((parts, body)) = ready!(errand.poll_restore(limit, cx)) else {
                        errand.settle();
                        return Poll::Ready(Ok(*taken(response)));
                    };
                    observe::replaying(&errand.target);
                    let request = errand.put(token.clone(), parts, body);
                    Step::Readying { request: Some(Box::new(request)) }
                }
            };
            this.step.set(next);
        }
    }
}

/// What a step is left with: it is left once.
fn taken<T>(value: &mut Option<T>) -> T {
    value.take().expect("polled after completion")
}

fn present<T>(errand: &mut Option<T>) -> &mut T {
    errand.as_mut().expect("only a request that passes untouched has no errand")
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
