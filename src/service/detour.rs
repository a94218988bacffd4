//! What a request waits for besides the inner service's response: its token, the inner service's
//! readiness, a renewal, its body. All of these are rare.
//!
//! ```text
//! Waiting ──token──▶ Readying ──ready, token still good──▶ called
//!    ▲                  │ ▲
//!    └──token expired───┘ │
//! Renewing ──token──▶ Restoring ──body──┘
//!    └──no token, no body─┴──▶ done: the rejection is the answer
//! ```

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use tokio::time::Sleep;
use tower_service::Service;

use super::{
    placed::Placed,
    replay::{KeptHead, Replay},
    walk::{Kept, Walk, how_much_to_keep, set_out},
};
use crate::{
    cache::Rejection,
    clock,
    error::{BoxError, TokenError},
    exchange::{Exchange, Still},
    rules::{Pass, Rules, Waiting},
    token::AccessToken,
};

/// How long a rejected request waits for the inner service to release its body.
const BODY_LIMIT: Duration = Duration::from_secs(1);

/// A step that a request waits for, with everything that the next steps need.
pub(super) enum Detour<S, R: Replay<B>, B, Res> {
    /// Waits for nothing: the request was not sent.
    Failed(BoxError),
    /// Waits for a token from the cache, and does not hold the inner service ready meanwhile.
    Waiting {
        token: BoxFuture<'static, Result<Arc<Pass>, TokenError>>,
        /// The exchange so far, if the token expired while the request waited.
        before: Option<Exchange>,
        outgoing: Outgoing<S, R, B>,
    },
    /// Waits for the inner service to become ready.
    Readying { exchange: Exchange, outgoing: Outgoing<S, R, B>, has_waited: bool },
    /// Waits for another token than the one that this response rejected.
    Renewing {
        token: BoxFuture<'static, Result<AccessToken, TokenError>>,
        kept: Placed<Kept<S, R, B>>,
        response: Res,
    },
    /// Waits for the body of the first call, which the inner service still has.
    Restoring {
        exchange: Exchange,
        kept: Placed<Kept<S, R, B>>,
        response: Res,
        limit: Option<Pin<Box<Sleep>>>,
    },
}

/// A request that is about to be sent.
pub(super) struct Outgoing<S, R: Replay<B>, B> {
    service: S,
    call: Call<R, B>,
}

enum Call<R: Replay<B>, B> {
    First { request: Request<B>, rules: Arc<Rules>, replay: R },
    Second { request: Request<R::Body> },
}

/// Where a detour leads.
pub(super) enum Turn<S, R, B, ResBody>
where
    R: Replay<B>,
    S: Service<Request<R::Body>>,
{
    Done(Result<Response<ResBody>, BoxError>),
    Called(S::Future, Walk<S, R, B>),
}

/// What a step leads to.
enum Progress<S, R, B, ResBody>
where
    R: Replay<B>,
    S: Service<Request<R::Body>>,
{
    Await(Detour<S, R, B, Response<ResBody>>),
    Go(Detour<S, R, B, Response<ResBody>>),
    End(Turn<S, R, B, ResBody>),
}

// ===== impl Detour =====

impl<S, R: Replay<B>, B, Res> Detour<S, R, B, Res> {
    /// For a request that has no token yet.
    pub(super) fn waiting(
        waiting: Waiting,
        request: Request<B>,
        rules: Arc<Rules>,
        replay: R,
        service: S,
    ) -> Self {
        let outgoing = Outgoing { service, call: Call::First { request, rules, replay } };
        Self::Waiting { token: waiting.pass().boxed(), before: None, outgoing }
    }

    /// For a request whose token was rejected.
    pub(super) fn renewing(
        rejection: Rejection,
        kept: Placed<Kept<S, R, B>>,
        response: Res,
    ) -> Self {
        let cache = kept.exchange.pass().cache().clone();
        let token = async move { cache.renew(rejection).await }.boxed();
        Self::Renewing { token, kept, response }
    }
}

impl<S, R, B, ResBody> Detour<S, R, B, Response<ResBody>>
where
    R: Replay<B>,
    S: Service<Request<R::Body>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
{
    #[expect(clippy::expect_used, reason = "a future is not polled after it has completed")]
    pub(super) fn poll(
        detour: &mut Option<Box<Self>>,
        cx: &mut Context<'_>,
    ) -> Poll<Turn<S, R, B, ResBody>> {
        let mut step = *detour.take().expect("polled after completion");
        loop {
            step = match step.step(cx) {
                Progress::Go(next) => next,
                Progress::End(turn) => return Poll::Ready(turn),
                Progress::Await(same) => {
                    *detour = Some(Box::new(same));
                    return Poll::Pending;
                }
            }
        }
    }

    fn step(self, cx: &mut Context<'_>) -> Progress<S, R, B, ResBody> {
        match self {
            Self::Failed(error) => done(Err(error)),
            Self::Waiting { mut token, before, outgoing } => match token.poll_unpin(cx) {
                Poll::Pending => Progress::Await(Self::Waiting { token, before, outgoing }),
                Poll::Ready(Ok(pass)) => {
                    let exchange = Exchange::new(pass);
                    Progress::Go(Self::Readying { exchange, outgoing, has_waited: false })
                }
                Poll::Ready(Err(error)) => {
                    before.iter().for_each(Exchange::broken);
                    done(Err(error.into()))
                }
            },
            Self::Readying { exchange, mut outgoing, has_waited } => {
                match outgoing.service.poll_ready(cx) {
                    Poll::Pending => {
                        Progress::Await(Self::Readying { exchange, outgoing, has_waited: true })
                    }
                    Poll::Ready(Ok(())) if has_waited => outgoing.recheck_and_call(exchange),
                    Poll::Ready(Ok(())) => outgoing.call(exchange),
                    Poll::Ready(Err(error)) => {
                        exchange.broken();
                        done(Err(error.into()))
                    }
                }
            }
            Self::Renewing { mut token, mut kept, response } => match token.poll_unpin(cx) {
                // The renewal goes on without this request.
                Poll::Pending if R::poll_void(&mut kept.body, cx).is_ready() => done(Ok(response)),
                Poll::Pending => Progress::Await(Self::Renewing { token, kept, response }),
                Poll::Ready(outcome) => match kept.exchange.renewed(outcome) {
                    Some(exchange) => {
                        Progress::Go(Self::Restoring { exchange, kept, response, limit: None })
                    }
                    None => done(Ok(response)),
                },
            },
            Self::Restoring { exchange, mut kept, response, mut limit } => {
                match poll_restore::<R, B>(&mut kept.body, &mut limit, cx) {
                    Poll::Pending => {
                        Progress::Await(Self::Restoring { exchange, kept, response, limit })
                    }
                    Poll::Ready(None) => done(Ok(response)),
                    Poll::Ready(Some(body)) => {
                        // The response may hold a connection that the second call needs.
                        drop(response);
                        exchange.replaying();
                        let Kept { head, service, .. } = kept.into_inner();
                        let outgoing = Outgoing::second(head, body, service);
                        Progress::Go(Self::Readying { exchange, outgoing, has_waited: false })
                    }
                }
            }
        }
    }
}

fn done<S, R, B, ResBody>(result: Result<Response<ResBody>, BoxError>) -> Progress<S, R, B, ResBody>
where
    R: Replay<B>,
    S: Service<Request<R::Body>>,
{
    Progress::End(Turn::Done(result))
}

/// Takes the body back once the inner service has released it; `None` if that cannot happen or
/// takes too long.
fn poll_restore<R: Replay<B>, B>(
    kept: &mut R::Kept,
    limit: &mut Option<Pin<Box<Sleep>>>,
    cx: &mut Context<'_>,
) -> Poll<Option<R::Body>> {
    if let Poll::Ready(body) = R::poll_restore(kept, cx) {
        return Poll::Ready(body);
    }
    if limit.is_none() {
        *limit = clock::sleep(BODY_LIMIT).map(Box::pin);
    }
    match limit {
        Some(limit) => clock::poll_timer(limit.as_mut(), cx).map(|_| None),
        // Without a timer the wait would have no end.
        None => Poll::Ready(None),
    }
}

// ===== impl Outgoing =====

impl<S, R: Replay<B>, B> Outgoing<S, R, B> {
    fn second(head: KeptHead, body: R::Body, service: S) -> Self {
        Self { service, call: Call::Second { request: head.into_request(body) } }
    }
}

impl<S, R, B, ResBody> Outgoing<S, R, B>
where
    R: Replay<B>,
    S: Service<Request<R::Body>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
{
    /// Calls the service, which is ready.
    fn call(mut self, exchange: Exchange) -> Progress<S, R, B, ResBody> {
        let (request, walk) = match self.call {
            Call::First { mut request, rules, replay } => {
                let keep = how_much_to_keep::<R, B>(&mut request, &rules);
                let walk = set_out(exchange, &mut request, keep, &replay, &self.service);
                (replay.pass(request, walk.kept()), walk)
            }
            Call::Second { mut request } => {
                exchange.put(request.headers_mut());
                (request, Walk::Once(exchange))
            }
        };
        Progress::End(Turn::Called(self.service.call(request), walk))
    }

    /// Calls the service after a wait for it, during which the token may have expired.
    fn recheck_and_call(mut self, mut exchange: Exchange) -> Progress<S, R, B, ResBody> {
        match exchange.recheck() {
            Still::Send => self.call(exchange),
            Still::Wait(waiting) => {
                // A request that waits for its token holds no service ready.
                self.service = self.service.clone();
                let token = waiting.pass().boxed();
                Progress::Go(Detour::Waiting { token, before: Some(exchange), outgoing: self })
            }
            Still::Fail(error) => {
                exchange.broken();
                done(Err(error.into()))
            }
        }
    }
}
