//! The cache without its handle: the state under its lock, the part of it that is published, and
//! the flights that it starts.

use std::{future::poll_fn, pin::pin, sync::Arc};

use futures_util::future::{Either, select};
use tokio::{sync::watch, time::Instant};

use super::{
    answer::{Answer, Arrival, Grant},
    effects::Effects,
    flight::{End, Flight, Host, Outcome},
    keeper::{self, Warm},
    names::FlightId,
    policy::RefreshPolicy,
    published::{Published, Stamp},
    state::{State, Wanted},
    status::Status,
    sync::{Lock, Once, Single},
    tasks::{AbortHandle, Runtime, poll_timer, runtime, sleep_until, timeout},
};
use crate::{
    error::{CacheError, TokenError},
    observe::{self, Label},
    origin::Origin,
    source::AnySource,
    token::AccessToken,
};

pub(super) struct Core {
    pub(super) source: Box<dyn AnySource>,
    /// The name of the source.
    label: Label,
    /// The name of the cache, which takes precedence if there is one.
    named: Once<Label>,
    pub(super) policy: Arc<RefreshPolicy>,
    pub(super) published: Published,
    pub(super) shared: Lock<Shared>,
    /// Signals that a flight has started or ended, if there is a subscriber.
    changes: Once<watch::Sender<()>>,
    /// The one task that keeps the token warm.
    keeper: Single,
    /// The task of the last flight.
    task: Lock<Option<(FlightId, AbortHandle)>>,
}

/// What the lock guards: the state, and the end of the flight that the state has in progress.
pub(super) struct Shared {
    pub(super) state: State,
    end: Option<End>,
}

/// What a caller that wants a token gets, with the flight to wait for.
#[derive(Debug)]
pub(crate) enum Asked {
    Token(Granted),
    Wait(Wait),
    Error(TokenError),
}

/// A token, how long it may be used without asking again, and whether the cache wants to know that
/// it was accepted.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) token: AccessToken,
    pub(crate) stamp: Stamp,
    pub(crate) watched: bool,
}

/// A flight to wait for.
#[derive(Debug)]
pub(crate) struct Wait {
    end: End,
    flight: FlightId,
    lost_at: Instant,
    /// The flight was not asked for what this caller needs.
    pub(super) ask_again: bool,
    /// Has a timer, in case the wait is polled where there is none.
    runtime: Runtime,
}

// ===== impl Core =====

impl Core {
    pub(super) fn new(
        source: Box<dyn AnySource>,
        policy: Arc<RefreshPolicy>,
        label: Label,
    ) -> Self {
        Self {
            label,
            named: Once::default(),
            source,
            published: Published::default(),
            shared: Lock::new(Shared { state: State::new(Arc::clone(&policy)), end: None }),
            policy,
            changes: Once::default(),
            keeper: Single::default(),
            task: Lock::default(),
        }
    }

    /// The name of the cache, or else of its source.
    pub(super) fn label(&self) -> &Label {
        self.named.get().unwrap_or(&self.label)
    }

    /// Gives the cache a name, unless it has one.
    pub(super) fn name(&self, name: Label) {
        self.named.set(name);
    }

    /// Asks the state, and starts the flight that the answer needs.
    pub(super) fn decide(
        self: &Arc<Self>,
        question: impl FnOnce(&mut State, Instant) -> (Answer, Effects),
    ) -> Asked {
        let (answer, change) = self.change(question);
        let is_first = change.flight.is_some();
        let started = self.start(change.flight);
        if change.is_kept_warm {
            keeper::ensure(self);
        }
        let (lost_at, ask_again) = match answer {
            // A wait needs a timer; the use of a token needs nothing.
            Answer::Token(grant) => {
                self.check_recovery();
                let granted = Granted::new(grant, change.now);
                granted.stamp.observe_use(|| self.label());
                return Asked::Token(granted);
            }
            Answer::Error(error) => {
                self.check_recovery();
                return Asked::Error(self.label().on(error));
            }
            Answer::Wait(lost_at) => (lost_at, false),
            Answer::WaitAndAskAgain(lost_at) => (lost_at, true),
        };
        if !is_first {
            observe::shared_a_flight(self.label());
        }
        match started.and_then(|()| runtime()) {
            Ok(runtime) => match change.end {
                Some((end, flight)) => {
                    Asked::Wait(Wait { end, flight, lost_at, ask_again, runtime })
                }
                // A flight to wait for is in progress, so it has an end.
                None => Asked::Error(self.label().on(CacheError::FlightLost.into())),
            },
            Err(error) => Asked::Error(self.label().on(error.into())),
        }
    }

    /// Leaves a keeper on the current runtime, if there is a runtime and something to keep.
    pub(super) fn leave_keeper(self: &Arc<Self>) {
        let is_kept_warm = self.shared.lock().state.is_kept_warm();
        if is_kept_warm {
            keeper::ensure(self);
        }
    }

    /// Makes the keeper fetch a token when one is wanted.
    pub(super) fn want(self: &Arc<Self>, wanted: Wanted) {
        self.shared.lock().state.want(wanted, Instant::now());
        self.leave_keeper();
        // There may have been a keeper, asleep.
        self.tell();
    }

    /// A request with this token was accepted there.
    pub(super) fn accepted(self: &Arc<Self>, token: &AccessToken, origin: Option<&Origin>) {
        self.change(|state, now| ((), state.accepted(token, origin, now)));
    }

    /// Waits for the end of a flight, until it counts as lost or the caller's time is over. The wait
    /// is lent: a future holds each value that it is given twice, and many may wait.
    pub(super) async fn wait(self: &Arc<Self>, wait: &mut Wait, end: Instant) -> Outcome {
        let outcome = self.wait_for_end(wait, end).await;
        outcome.map_err(|error| self.label().on(error))
    }

    async fn wait_for_end(self: &Arc<Self>, wait: &mut Wait, end: Instant) -> Outcome {
        #[cfg(feature = "metrics")]
        let _waiting = Waiting { source: self.label(), since: Instant::now() };
        let mut sleep = pin!({
            // The runtime that polls the request drives the timer too.
            let runtime = runtime().unwrap_or_else(|_| wait.runtime.clone());
            let _has_timer = runtime.enter();
            sleep_until(wait.lost_at.min(end))
        });
        let time = poll_fn(|cx| poll_timer(sleep.as_mut(), cx));
        let outcome = match select(&mut wait.end, time).await {
            Either::Left((Ok(outcome), _)) => outcome,
            Either::Left((Err(_gone), _)) => Err(CacheError::FlightLost.into()),
            Either::Right((Err(no_runtime), _)) => Err(no_runtime.into()),
            Either::Right(_) if wait.lost_at <= end => {
                self.lost(wait.flight, &CacheError::FlightLost);
                Err(CacheError::FlightLost.into())
            }
            Either::Right(_) => Err(CacheError::WaitTimeout(self.policy.wait_limit()).into()),
        };
        // Also if the flight had ended: the token was removed before this caller had it.
        if self.is_forgotten() { Err(CacheError::Forgotten.into()) } else { outcome }
    }

    /// Removes the token for good, and ends the flight in progress.
    #[cfg(feature = "keyed")]
    pub(super) fn forget(self: &Arc<Self>) {
        self.change(|state, now| ((), state.forget(now)));
        self.abort();
        self.tell();
    }

    fn abort(&self) {
        if let Some((_, task)) = self.task.lock().take() {
            task.abort();
        }
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.shared.lock().state.is_forgotten()
    }

    fn start(self: &Arc<Self>, flight: Option<Flight<Self>>) -> Result<(), CacheError> {
        let Some(flight) = flight else { return Ok(()) };
        match runtime() {
            Ok(runtime) => {
                let id = flight.id();
                *self.task.lock() = Some((id, flight.spawn(&runtime)));
                if self.is_forgotten() {
                    self.abort();
                }
                self.tell();
                Ok(())
            }
            Err(error) => {
                flight.lose(&error);
                Err(error)
            }
        }
    }

    /// While the source cools down after a permanent failure: asks it, in the background, whether
    /// an operator has changed the cause.
    fn check_recovery(self: &Arc<Self>) {
        let cooldown = self.shared.lock().state.may_check_recovery(Instant::now());
        let (Some(cooldown), Ok(runtime)) = (cooldown, runtime()) else { return };
        let core = Arc::clone(self);
        runtime.spawn(async move {
            let limit = core.policy.attempt_limit();
            if let Ok(true) = timeout(limit, core.source.recovered()).await {
                core.change(|state, _| (state.recovered(cooldown), Effects::default()));
                core.tell();
            }
        });
    }

    /// Changes the state and publishes the result. Then, without the lock, reports and drops what
    /// the transition has left.
    fn change<A>(
        self: &Arc<Self>,
        transition: impl FnOnce(&mut State, Instant) -> (A, Effects),
    ) -> (A, Change) {
        let now = Instant::now();
        let mut shared = self.shared.lock();
        let before = shared.state.flight();
        let (answer, Effects { start, events, spent }) = transition(&mut shared.state, now);
        let under_way = shared.state.flight();
        // The end of a flight that is over holds its outcome.
        let over = shared.end.take_if(|_| before != under_way);
        let flight = start.map(|start| {
            let (flight, end) = Flight::new(Arc::clone(self), start);
            shared.end = Some(end);
            flight
        });
        let end = shared.end.clone().zip(under_way);
        let is_kept_warm = shared.state.is_kept_warm();
        self.published.publish(shared.state.version(), shared.state.granted(None, now), now);
        drop(shared);
        drop((over, spent));
        for event in events {
            event.tell(self.label());
        }
        (answer, Change { now, flight, end, is_kept_warm })
    }

    pub(super) fn status(&self) -> Status {
        let status = self.shared.lock().state.status(Instant::now());
        Status { name: self.label().shared(), ..status }
    }

    /// Signals each start and each end of a flight.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changes.get_or_init(|| watch::Sender::new(())).subscribe()
    }

    /// Signals a change to the subscribers.
    fn tell(&self) {
        if let Some(changes) = self.changes.get() {
            changes.send_replace(());
        }
    }
}

impl Host for Core {
    fn source(&self) -> &dyn AnySource {
        &*self.source
    }

    fn policy(&self) -> &RefreshPolicy {
        &self.policy
    }

    fn label(&self) -> &Label {
        self.label()
    }

    fn asks_source(&self, id: FlightId) -> bool {
        self.shared.lock().state.asks_source(id)
    }

    fn finished(
        self: &Arc<Self>,
        id: FlightId,
        outcome: Result<Arrival, TokenError>,
    ) -> Option<Outcome> {
        // The handle would keep the memory of a task that has ended. That of a later flight stays.
        drop(self.task.lock().take_if(|(flight, _)| *flight == id));
        let random = fastrand::f64();
        let (outcome, _) = self.change(|state, now| state.finished(id, outcome, now, random));
        self.tell();
        outcome
    }

    fn lost(self: &Arc<Self>, id: FlightId, why: &CacheError) {
        let (was_under_way, _) = self.change(|state, now| state.lost(id, why, now));
        if was_under_way {
            self.tell();
        }
    }
}

impl Warm for Core {
    fn keeper(&self) -> &Single {
        &self.keeper
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.subscribe()
    }

    fn warm_at(&self, now: Instant) -> Option<Instant> {
        self.shared.lock().state.warm_at(now)
    }

    fn keep_warm(self: Arc<Self>) {
        self.check_recovery();
        let ((), change) = self.change(|state, now| ((), state.keep_warm(now)));
        // Without a runtime the flight is lost, and its event says so.
        drop(self.start(change.flight));
    }
}

/// What a change of the state leaves to its caller.
struct Change {
    now: Instant,
    /// A flight to start.
    flight: Option<Flight<Core>>,
    /// The end of the flight in progress.
    end: Option<(End, FlightId)>,
    is_kept_warm: bool,
}

// ===== impl Granted =====

impl Granted {
    pub(super) fn new(grant: Grant, now: Instant) -> Self {
        let stamp = Stamp::new(&grant, now);
        Self { token: grant.token, stamp, watched: grant.watched }
    }

    /// A token that the state did not keep, for the callers that waited for it.
    pub(crate) fn once(token: AccessToken) -> Self {
        Self { token, stamp: Stamp::for_one_use(), watched: true }
    }
}

// ===== impl Waiting =====

/// Measures a wait, even if the caller gives up.
#[cfg(feature = "metrics")]
struct Waiting<'a> {
    source: &'a Label,
    since: Instant,
}

#[cfg(feature = "metrics")]
impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        observe::waited(self.source, self.since.elapsed());
    }
}
