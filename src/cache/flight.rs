//! One fetch, many waiters.
//!
//! A flight runs on a task of its own, so that dropping a caller does not end it. It ends in
//! exactly one of these ways. The [`Host`] learns of each before any waiter does.
//!
//! | what happens | who reports it | the waiters get |
//! | --- | --- | --- |
//! | the source answers, or all attempts are used up | the task | the outcome |
//! | the source panics | the task, which catches it | an error |
//! | the runtime shuts down and drops the task, or the token is forgotten | [`Flight`], when it is dropped | an error |
//! | the runtime does not run | a waiter, or the next caller, by its own clock | an error |

use std::{panic::AssertUnwindSafe, sync::Arc, time::SystemTime};

use futures_util::{FutureExt, future::Shared};
use tokio::{sync::oneshot, time::Instant};

use super::{
    answer::Arrival,
    effects::Start,
    names::FlightId,
    policy::RefreshPolicy,
    tasks::{AbortHandle, Runtime, sleep, timeout, timeout_at},
};
use crate::{
    clock::later::Later,
    error::{CacheError, TokenError},
    observe::{self, Label},
    source::{AnySource, TokenRequest},
    token::AccessToken,
};

pub(super) type Outcome = Result<AccessToken, TokenError>;

/// The end of a flight, to wait for. Every clone is one more waiter.
pub(super) type End = Shared<oneshot::Receiver<Outcome>>;

/// What starts a flight and learns of its end.
pub(super) trait Host: Send + Sync + Sized + 'static {
    fn source(&self) -> &dyn AnySource;
    fn policy(&self) -> &RefreshPolicy;

    /// The name of the cache, for events and metrics.
    fn label(&self) -> &Label;

    /// The flight calls the source, perhaps not for the first time. Returns false if the flight was given up.
    fn asks_source(&self, id: FlightId) -> bool;

    /// The flight has ended. Returns what its waiters get; `None` if it was given up before.
    fn finished(
        self: &Arc<Self>,
        id: FlightId,
        outcome: Result<Arrival, TokenError>,
    ) -> Option<Outcome>;

    /// The flight will never finish.
    fn lost(self: &Arc<Self>, id: FlightId, why: &CacheError);
}

/// What the task of a flight carries. If it is dropped before the flight's end, it reports the
/// loss.
pub(super) struct Flight<H: Host> {
    host: Arc<H>,
    start: Start,
    waiters: Option<oneshot::Sender<Outcome>>,
}

// ===== impl Flight =====

impl<H: Host> Flight<H> {
    pub(super) fn new(host: Arc<H>, start: Start) -> (Self, End) {
        let (waiters, end) = oneshot::channel();
        (Self { host, start, waiters: Some(waiters) }, end.shared())
    }

    pub(super) fn id(&self) -> FlightId {
        self.start.id
    }

    /// Runs the flight on a task of its own.
    pub(super) fn spawn(self, runtime: &Runtime) -> AbortHandle {
        let reason = self.start.request.reason().name();
        let host = Arc::clone(&self.host);
        runtime.spawn(observe::flight(host.label(), reason, self.run())).abort_handle()
    }

    /// Reports that the flight will never finish.
    pub(super) fn lose(mut self, why: &CacheError) {
        self.report_loss(why);
    }

    async fn run(self) {
        let host = Arc::clone(&self.host);
        let request = self.start.request.clone().labelled(host.label().clone());
        let fetch = fetch(&*host, self.start.id, request);
        match AssertUnwindSafe(fetch).catch_unwind().await {
            Ok(outcome) => self.finish(outcome),
            Err(_panic) => self.lose(&CacheError::SourcePanicked),
        }
    }

    fn finish(mut self, outcome: Result<Arrival, TokenError>) {
        let outcome = self.host.finished(self.start.id, outcome);
        // A refresh in the background has no waiters.
        if let (Some(waiters), Some(outcome)) = (self.waiters.take(), outcome) {
            drop(waiters.send(outcome));
        }
    }

    fn report_loss(&mut self, why: &CacheError) {
        if let Some(waiters) = self.waiters.take() {
            self.host.lost(self.start.id, why);
            drop(waiters.send(Err(why.clone().into())));
        }
    }
}

impl<H: Host> Drop for Flight<H> {
    fn drop(&mut self) {
        self.report_loss(&CacheError::FlightLost);
    }
}

// ===== The fetch =====

/// Calls the source until it answers, the policy allows no further attempt, or the time is over.
async fn fetch<H: Host>(
    host: &H,
    id: FlightId,
    request: TokenRequest,
) -> Result<Arrival, TokenError> {
    let policy = host.policy();
    let end = Instant::now().later(policy.fetch_limit());
    let mut made = 0_u32;
    loop {
        if !host.asks_source(id) {
            return Err(CacheError::FlightLost.into());
        }
        let attempt = timeout_at(end, attempt(host, request.clone())).await;
        let error = match attempt {
            Ok(Ok(arrival)) => return Ok(arrival),
            Ok(Err(error)) => error,
            Err(_) => return Err(CacheError::FetchTimeout(policy.fetch_limit()).into()),
        };
        made = made.saturating_add(1);
        let pause = policy.pause(made, &error, fastrand::f64());
        let Some(pause) = pause.filter(|pause| Instant::now().later(*pause) < end) else {
            return Err(error);
        };
        observe::attempt_failed(host.label(), &error, made, pause);
        sleep(pause).await;
    }
}

async fn attempt<H: Host>(host: &H, request: TokenRequest) -> Result<Arrival, TokenError> {
    let limit = host.policy().attempt_limit();
    let (called, called_wall) = (Instant::now(), SystemTime::now());
    match timeout(limit, host.source().fetch(request)).await {
        Ok(fetched) => Ok(Arrival { token: fetched?, called, called_wall }),
        Err(_) => Err(CacheError::FetchTimeout(limit).into()),
    }
}
