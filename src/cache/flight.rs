//! One fetch, many waiters.
//!
//! A flight runs on a task of its own, so that whoever asked may be dropped, and ends in
//! exactly one of these ways, each told to the [`Core`] before any waiter hears of it:
//!
//! | what happens | who says so | the waiters get |
//! | --- | --- | --- |
//! | the source answers, or all attempts are used up | the task | the outcome |
//! | the source panics | the task, which catches it | an error |
//! | the runtime shuts down and drops the task | [`Manifest`], when it is dropped | an error |
//! | nobody drives the runtime | a waiter, or the next asker, by its own clock | an error |

use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use futures_util::{
    FutureExt,
    future::{Either, Shared, select},
};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use super::{
    Core,
    policy::RefreshPolicy,
    state::{Arrival, FlightId, Takeoff},
};
use crate::{
    error::{CacheError, TokenError},
    observe,
    source::{AnySource, TokenRequest},
    token::AccessToken,
};

pub(super) type Outcome = Result<AccessToken, TokenError>;

/// A place from which the landing can be awaited; every clone is one more waiter.
pub(super) type Seat = Shared<oneshot::Receiver<Outcome>>;

/// What the task of a flight carries: dropped before the landing, it reports the loss.
pub(super) struct Manifest {
    core: Arc<Core>,
    takeoff: Takeoff,
    waiters: Option<oneshot::Sender<Outcome>>,
}

/// The runtime that we are on, if it can run a flight: one without a timer cannot.
pub(super) fn runtime() -> Result<Handle, CacheError> {
    let runtime = Handle::try_current().map_err(|_| CacheError::NoRuntime)?;
    // Tokio has no question for this: to make a timer where there is none panics.
    match std::panic::catch_unwind(|| drop(sleep(Duration::ZERO))) {
        Ok(()) => Ok(runtime),
        Err(_panic) => Err(CacheError::NoRuntime),
    }
}

// ===== impl Manifest =====

impl Manifest {
    pub(super) fn new(core: Arc<Core>, takeoff: Takeoff) -> (Self, Seat) {
        let (waiters, landing) = oneshot::channel();
        (Self { core, takeoff, waiters: Some(waiters) }, landing.shared())
    }

    /// Starts the flight on a task of its own.
    pub(super) fn fly(self, runtime: &Handle) {
        let reason = self.takeoff.request.reason();
        runtime.spawn(observe::flight(reason, self.run()));
    }

    /// Reports that the flight will never land.
    pub(super) fn lose(mut self, why: &CacheError) {
        self.report_loss(why);
    }

    async fn run(self) {
        let core = Arc::clone(&self.core);
        let keeper = Keeper { flight: self.takeoff.id, core: Arc::downgrade(&core) };
        let fetch = fetch(&*core.source, &core.policy, self.takeoff.request.clone());
        match AssertUnwindSafe(fetch).catch_unwind().await {
            Ok(outcome) => self.land(outcome),
            Err(_panic) => self.lose(&CacheError::SourcePanicked),
        }
        drop(core);
        keeper.keep_warm().await;
    }

    fn land(mut self, outcome: Result<Arrival, TokenError>) {
        let landed = self.core.land(self.takeoff.id, outcome);
        let waiters = self.waiters.take().expect("a flight ends once");
        if let Some(outcome) = landed {
            // Perhaps nobody waits: then it was a refresh in the background.
            drop(waiters.send(outcome));
        }
    }

    fn report_loss(&mut self, why: &CacheError) {
        if let Some(waiters) = self.waiters.take() {
            self.core.lose(self.takeoff.id, why);
            drop(waiters.send(Err(why.clone().into())));
        }
    }
}

impl Drop for Manifest {
    fn drop(&mut self) {
        self.report_loss(&CacheError::FlightLost);
    }
}

// ===== The fetch =====

/// Calls the source until it answers, the policy says that it is enough, or the time is over.
async fn fetch(
    source: &dyn AnySource,
    policy: &RefreshPolicy,
    request: TokenRequest,
) -> Result<Arrival, TokenError> {
    let end = Instant::now() + policy.fetch_timeout;
    let mut made = 0;
    loop {
        let attempt = timeout_at(end, attempt(source, policy, request.clone())).await;
        let error = match attempt {
            Ok(Ok(arrival)) => return Ok(arrival),
            Ok(Err(error)) => error,
            Err(_) => return Err(CacheError::FetchTimeout(policy.fetch_timeout).into()),
        };
        made += 1;
        let pause = policy.pause(made, &error, fastrand::f64());
        let Some(pause) = pause.filter(|pause| Instant::now() + *pause < end) else {
            return Err(error);
        };
        observe::attempt_failed(&error, made, pause);
        sleep(pause).await;
    }
}

async fn attempt(
    source: &dyn AnySource,
    policy: &RefreshPolicy,
    request: TokenRequest,
) -> Result<Arrival, TokenError> {
    let (called, called_wall) = (Instant::now(), SystemTime::now());
    match timeout(policy.attempt_timeout, source.fetch(request)).await {
        Ok(fetched) => Ok(Arrival { token: fetched?, called, called_wall }),
        Err(_) => Err(CacheError::FetchTimeout(policy.attempt_timeout).into()),
    }
}

// ===== impl Keeper =====

/// What is left of a flight when the policy keeps the token warm: it sleeps until the next
/// refresh is due, and starts it. It ends when another flight has started, which leaves a
/// keeper of its own, or when the last handle of the cache is dropped.
struct Keeper {
    flight: FlightId,
    core: Weak<Core>,
}

impl Keeper {
    async fn keep_warm(self) {
        let Some(mut changes) = self.core.upgrade().map(|core| core.changes.subscribe()) else {
            return;
        };
        while let Some(at) = self.tend_at() {
            match select(pin!(sleep_until(at)), pin!(changes.changed())).await {
                Either::Left(_) => self.tend(),
                Either::Right((Err(_closed), _)) => return,
                Either::Right((Ok(()), _)) => {}
            }
        }
    }

    fn tend_at(&self) -> Option<Instant> {
        let core = self.core.upgrade()?;
        (core.flights() == self.flight).then(|| core.tend_at())?
    }

    fn tend(&self) {
        if let Some(core) = self.core.upgrade() {
            core.tend();
        }
    }
}
