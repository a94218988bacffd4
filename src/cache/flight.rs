//! One fetch, many waiters.
//!
//! A flight runs on a task of its own, so that whoever asked may be dropped, and ends in
//! exactly one of these ways. The [`Host`] hears of each before any waiter does.
//!
//! | what happens | who says so | the waiters get |
//! | --- | --- | --- |
//! | the source answers, or all attempts are used up | the task | the outcome |
//! | the source panics | the task, which catches it | an error |
//! | the runtime shuts down and drops the task, or the token is forgotten | [`Flight`], when it is dropped | an error |
//! | nobody drives the runtime | a waiter, or the next asker, by its own clock | an error |

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
    error::{CacheError, TokenError},
    observe::{self, Label},
    source::{AnySource, TokenRequest},
    token::AccessToken,
};

pub(super) type Outcome = Result<AccessToken, TokenError>;

/// The end of a flight, to be awaited; every clone is one more waiter.
pub(super) type End = Shared<oneshot::Receiver<Outcome>>;

/// Whom a flight is for.
pub(super) trait Host: Send + Sync + Sized + 'static {
    fn source(&self) -> &dyn AnySource;
    fn policy(&self) -> &RefreshPolicy;

    /// Whose tokens it fetches.
    fn label(&self) -> &Label;

    /// The source is asked, perhaps not for the first time; false if the flight was given up.
    fn asks_source(&self, id: FlightId) -> bool;

    /// The flight has ended. What its waiters get; `None` if it was given up before.
    fn finished(
        self: &Arc<Self>,
        id: FlightId,
        outcome: Result<Arrival, TokenError>,
    ) -> Option<Outcome>;

    /// The flight will never finish.
    fn lost(self: &Arc<Self>, id: FlightId, why: &CacheError);
}

/// What the task of a flight carries: dropped before its end, it reports the loss.
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
        let waiters = self.waiters.take().expect("a flight ends once");
        if let Some(outcome) = outcome {
            // Perhaps nobody waits: then it was a refresh in the background.
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

/// Calls the source until it answers, the policy says that it is enough, or the time is over.
async fn fetch<H: Host>(
    host: &H,
    id: FlightId,
    request: TokenRequest,
) -> Result<Arrival, TokenError> {
    let policy = host.policy();
    let end = Instant::now() + policy.fetch_limit();
    let mut made = 0;
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
        made += 1;
        let pause = policy.pause(made, &error, fastrand::f64());
        let Some(pause) = pause.filter(|pause| Instant::now() + *pause < end) else {
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
