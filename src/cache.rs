//! The token cache: holds the current token, decides when the next is due, and makes many
//! askers share one fetch.

mod cooldown;
mod effects;
mod flight;
mod keeper;
mod names;
mod origins;
mod policy;
mod published;
mod rejection;
mod state;
mod status;
mod sync;

use std::{fmt, pin::pin, sync::Arc};

use futures_util::{
    Stream, StreamExt,
    future::{Either, select},
    stream,
};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

pub(crate) use self::published::Stamp;
use self::{
    effects::{Effects, Event},
    flight::{End, Flight, Host, Outcome},
    keeper::Warm,
    names::FlightId,
    published::Published,
    state::{Answer, Arrival, Grant, RejectedBy, State},
    sync::{Lock, Single},
};
pub use self::{
    policy::{InvalidPolicy, RefreshPolicy, RefreshPolicyBuilder},
    rejection::Rejection,
    status::Status,
};
use crate::{
    clock,
    error::{CacheError, TokenError},
    observe,
    origin::Origin,
    source::{AnySource, TokenSource},
    token::AccessToken,
};

/// Keeps a token and renews it. Every clone shares the one token.
///
/// Use it under a [`BearerAuthLayer`](crate::BearerAuthLayer), or alone where a program wants
/// just a token.
///
/// A fetch runs on a task of its own on the tokio runtime of whoever asked first, so whoever
/// asked may be dropped or cancelled. With a usable token nothing of this is touched: reading
/// it takes no lock, allocates nothing and starts no task.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{AccessToken, TokenCache, TokenError, from_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), TokenError> {
/// let cache = TokenCache::new(from_fn(|_| async {
///     let token = AccessToken::new("abc").map_err(TokenError::permanent)?;
///     Ok(token.with_lifetime(Duration::from_secs(3600)))
/// }));
/// assert!(cache.current().is_none());
/// assert_eq!(cache.get().await?.secret(), "abc");
/// assert!(cache.status().has_token());
/// # Ok(())
/// # }
/// ```
///
/// # Failure
///
/// A failed fetch and a rejection take nothing away: a token that has not expired is handed
/// out until a newer one is here. After a failure the source cools down (see
/// [`RefreshPolicyBuilder`]): callers who ask meanwhile, while there is no token, get the last
/// error at once.
#[derive(Clone)]
pub struct TokenCache {
    core: Arc<Core>,
}

struct Core {
    source: Box<dyn AnySource>,
    policy: RefreshPolicy,
    published: Published,
    shared: Lock<Shared>,
    changes: watch::Sender<Status>,
    /// The one task that keeps the token warm.
    keeper: Single,
}

/// What the lock guards: the state, and the end of the flight that it says is under way.
struct Shared {
    state: State,
    end: Option<End>,
}

/// What a caller who wants a token gets, with the flight to wait for.
#[derive(Debug)]
pub(crate) enum Asked {
    Token(Granted),
    Wait(Wait),
    Error(TokenError),
}

/// A token, for how long it may be used without asking, and whether the cache wants to hear
/// that it was accepted.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) token: AccessToken,
    pub(crate) stamp: Stamp,
    pub(crate) watched: bool,
}

/// A flight that is awaited.
#[derive(Debug)]
pub(crate) struct Wait {
    end: End,
    flight: FlightId,
    lost_at: Instant,
    /// The flight was not asked for what this caller needs.
    ask_again: bool,
    /// Has the timer, wherever the wait is polled.
    runtime: Handle,
}

// ===== impl TokenCache =====

impl TokenCache {
    /// A cache with the default [`RefreshPolicy`].
    #[must_use]
    pub fn new(source: impl TokenSource) -> Self {
        Self::with_policy(source, RefreshPolicy::default())
    }

    /// A cache that goes by that policy.
    #[must_use]
    pub fn with_policy(source: impl TokenSource, policy: RefreshPolicy) -> Self {
        let policy = policy.for_source(source.attempt_timeout());
        let state = State::new(policy.clone());
        let (changes, _) = watch::channel(state.status(Instant::now()));
        let core = Core {
            source: Box::new(source),
            policy,
            published: Published::default(),
            shared: Lock::new(Shared { state, end: None }),
            changes,
            keeper: Single::default(),
        };
        Self { core: Arc::new(core) }
    }

    /// The token, fetched if there is none. Many callers at once cause one fetch.
    ///
    /// A token that is due is returned at once, and refreshed in the background. A token that
    /// was rejected is returned only if no renewal is under way.
    ///
    /// # Errors
    ///
    /// The error of the source, while there is no token and the source cools down or its fetch
    /// has failed; a [`CacheError`] if the wait took too long or there is no tokio runtime.
    pub async fn get(&self) -> Result<AccessToken, TokenError> {
        match self.ready() {
            Some(token) => Ok(token),
            None => match self.ask(None) {
                Asked::Token(granted) => Ok(granted.token),
                Asked::Error(error) => Err(error),
                Asked::Wait(wait) => self.wait(wait).await,
            },
        }
    }

    /// The token, if there is one that has not expired. It only looks: nothing is fetched.
    #[must_use]
    pub fn current(&self) -> Option<AccessToken> {
        let published = self.core.published.token().map(|(token, _)| token);
        published.or_else(|| self.core.shared.lock().state.token(Instant::now()).cloned())
    }

    /// A token other than the rejected one: the current one if it is newer, else what the
    /// flight under way brings, or a new one.
    ///
    /// # Errors
    ///
    /// The error of the source, if it fails or cools down; a [`CacheError`] if the source
    /// returns the rejected token again, the origin backs off, the challenge says that no new
    /// token can help, the wait took too long or there is no tokio runtime. The token that was
    /// rejected stays in use.
    pub async fn renew(&self, rejection: Rejection) -> Result<AccessToken, TokenError> {
        observe::renewing(rejection.origin.as_ref());
        self.check_satisfiable(&rejection)?;
        let end = Instant::now() + self.core.policy.wait_limit();
        loop {
            let asked =
                self.core.decide(|state, now| state.reject(&rejection, RejectedBy::Waiter, now));
            let (outcome, ask_again) = match asked {
                Asked::Token(granted) => return Ok(granted.token),
                Asked::Error(error) => return Err(error),
                Asked::Wait(wait) => {
                    let ask_again = wait.ask_again;
                    (self.core.wait(wait, end).await, ask_again)
                }
            };
            match outcome {
                // That flight's failure is told by whoever asked for it.
                _ if ask_again && Instant::now() < end => {}
                // A flight that had begun before the rejection may bring the rejected token:
                // then the caller asks for another.
                Ok(token) if token.is_same(&rejection.token) => {}
                outcome => return outcome,
            }
        }
    }

    /// The same without waiting: a renewal in the background. Requests to that origin wait for
    /// it, even if the token was accepted there before: tell this what no layer can see.
    #[expect(clippy::needless_pass_by_value, reason = "the rejection is spent, as by `renew`")]
    pub fn reject(&self, rejection: Rejection) {
        self.reject_by(RejectedBy::Caller, &rejection);
    }

    /// The same for a layer that cannot send the rejected request again.
    pub(crate) fn reject_in_background(&self, rejection: &Rejection) {
        self.reject_by(RejectedBy::Layer, rejection);
    }

    fn reject_by(&self, by: RejectedBy, rejection: &Rejection) {
        observe::renewing(rejection.origin.as_ref());
        let asked = match self.check_satisfiable(rejection) {
            Ok(()) => self.core.decide(|state, now| state.reject(rejection, by, now)),
            Err(error) => Asked::Error(error.into()),
        };
        if let Asked::Error(error) = asked {
            observe::renewal_failed(&error);
        }
    }

    /// Says that a request with this token was accepted there: it is proven, and the renewal
    /// backoff of that origin is over. If you call [`renew`](Self::renew) or
    /// [`reject`](Self::reject), call this too, else every renewed token counts as unproven; the
    /// layer does so by itself.
    pub fn accepted(&self, token: &AccessToken, origin: Option<&Origin>) {
        self.core.change(|state, now| (state.accepted(token, origin, now), Effects::default()));
    }

    /// How the cache is doing now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.core.shared.lock().state.status(Instant::now())
    }

    /// The status now, and then each time that a flight has started or ended; a slow reader
    /// sees the newest. The stream does not keep the cache alive: it ends with it.
    pub fn subscribe(&self) -> impl Stream<Item = Status> + Send + Unpin + use<> {
        let mut changes = self.core.changes.subscribe();
        changes.mark_changed();
        let next = |mut changes: watch::Receiver<Status>| async {
            changes.changed().await.ok()?;
            let status = changes.borrow_and_update().clone();
            Some((status, changes))
        };
        stream::unfold(changes, next).boxed()
    }

    /// Asks the state for a token to send there.
    pub(crate) fn ask(&self, origin: Option<&Origin>) -> Asked {
        self.core.decide(|state, now| state.ask(origin, now))
    }

    /// What the state grants to a request for that origin, with nothing fetched.
    pub(crate) fn granted(&self, origin: Option<&Origin>) -> Option<Granted> {
        let now = Instant::now();
        let grant = self.core.shared.lock().state.granted(origin, now)?;
        Some(Granted::new(grant, now))
    }

    /// What [`get`](Self::get) does when it waits.
    pub(crate) async fn wait(&self, wait: Wait) -> Outcome {
        let end = Instant::now() + self.core.policy.wait_limit();
        let outcome = self.core.wait(wait, end).await;
        // A renewal that failed leaves the suspect token: a 401 is one server's opinion.
        outcome.or_else(|error| self.current().ok_or(error))
    }

    /// Whether what was granted then still holds.
    #[inline]
    pub(crate) fn holds(&self, stamp: &Stamp) -> bool {
        self.core.published.holds(stamp)
    }

    /// Whether both are handles of one cache.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }

    /// Does it while this thread holds the state's lock.
    #[cfg(test)]
    pub(crate) fn while_locked<T>(&self, work: impl FnOnce() -> T) -> T {
        let _lock = self.core.shared.lock();
        work()
    }

    fn ready(&self) -> Option<AccessToken> {
        let (token, stamp) = self.core.published.token()?;
        stamp.observe_use();
        Some(token)
    }

    fn check_satisfiable(&self, rejection: &Rejection) -> Result<(), CacheError> {
        let Some(challenge) = &rejection.challenge else { return Ok(()) };
        match challenge.no_cure() {
            Some(why) if !self.core.source.can_satisfy(challenge) => {
                Err(CacheError::Unsatisfiable(why))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").field("status", &self.status()).finish_non_exhaustive()
    }
}

// ===== impl Core =====

impl Core {
    /// Puts a question to the state, and starts the flight that it asks for.
    fn decide(
        self: &Arc<Self>,
        question: impl FnOnce(&mut State, Instant) -> (Answer, Effects),
    ) -> Asked {
        let (answer, change) = self.change(question);
        let is_first = change.flight.is_some();
        let started = self.start(change.flight);
        let (lost_at, ask_again) = match answer {
            // To wait takes a timer; to use a token takes nothing.
            Answer::Token(grant) => {
                let granted = Granted::new(grant, change.now);
                granted.stamp.observe_use();
                return Asked::Token(granted);
            }
            Answer::Error(error) => {
                self.check_recovery();
                return Asked::Error(error);
            }
            Answer::Wait(lost_at) => (lost_at, false),
            Answer::WaitAndAskAgain(lost_at) => (lost_at, true),
        };
        if !is_first {
            observe::shared_a_flight();
        }
        match started.and_then(|()| clock::runtime()) {
            Ok(runtime) => {
                let (end, flight) = change.end.expect("a flight that is awaited is under way");
                Asked::Wait(Wait { end, flight, lost_at, ask_again, runtime })
            }
            Err(error) => Asked::Error(error.into()),
        }
    }

    /// Waits for the end of a flight, until it counts as lost or the caller's time is over.
    async fn wait(self: &Arc<Self>, wait: Wait, end: Instant) -> Outcome {
        #[cfg(feature = "metrics")]
        let _waiting = Waiting(Instant::now());
        let sleep = {
            let _has_timer = wait.runtime.enter();
            sleep_until(wait.lost_at.min(end))
        };
        match select(wait.end, pin!(sleep)).await {
            Either::Left((Ok(outcome), _)) => outcome,
            Either::Left((Err(_gone), _)) => Err(CacheError::FlightLost.into()),
            Either::Right(_) if wait.lost_at <= end => {
                self.lost(wait.flight, &CacheError::FlightLost);
                Err(CacheError::FlightLost.into())
            }
            Either::Right(_) => Err(CacheError::WaitTimeout(self.policy.wait_limit()).into()),
        }
    }

    fn start(self: &Arc<Self>, flight: Option<Flight<Self>>) -> Result<(), CacheError> {
        let Some(flight) = flight else { return Ok(()) };
        match clock::runtime() {
            Ok(runtime) => {
                flight.spawn(&runtime);
                if self.policy.keep_warm {
                    keeper::ensure(self, &runtime);
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

    /// While the source cools down after a permanent failure: asks it, in the background,
    /// whether an operator has changed what caused that.
    fn check_recovery(self: &Arc<Self>) {
        let cooldown = self.shared.lock().state.may_check_recovery(Instant::now());
        let (Some(cooldown), Ok(runtime)) = (cooldown, clock::runtime()) else { return };
        let core = Arc::clone(self);
        runtime.spawn(async move {
            let limit = core.policy.attempt_limit();
            if let Ok(true) = timeout(limit, core.source.recovered()).await {
                core.change(|state, _| (state.recovered(cooldown), Effects::default()));
                core.tell();
            }
        });
    }

    /// Changes the state, publishes what came of it, and then, without the lock, tells and drops
    /// what the transition has left.
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
        self.published.publish(shared.state.version(), shared.state.granted(None, now), now);
        drop(shared);
        drop((over, spent));
        events.iter().for_each(Event::tell);
        (answer, Change { now, flight, end })
    }

    /// Tells the subscribers. The status is taken inside, so that the newest one comes last.
    fn tell(&self) {
        let mut before = None;
        self.changes.send_modify(|status| {
            let now = self.shared.lock().state.status(Instant::now());
            before = Some(std::mem::replace(status, now));
        });
        drop(before);
    }
}

impl Host for Core {
    fn source(&self) -> &dyn AnySource {
        &*self.source
    }

    fn policy(&self) -> &RefreshPolicy {
        &self.policy
    }

    fn finished(
        self: &Arc<Self>,
        id: FlightId,
        outcome: Result<Arrival, TokenError>,
    ) -> Option<Outcome> {
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

    fn changes(&self) -> watch::Receiver<Status> {
        self.changes.subscribe()
    }

    fn warm_at(&self, now: Instant) -> Option<Instant> {
        self.shared.lock().state.warm_at(now)
    }

    fn keep_warm(self: Arc<Self>) {
        let ((), change) = self.change(|state, now| ((), state.keep_warm(now)));
        // Without a runtime the flight is lost, and its event says so.
        drop(self.start(change.flight));
    }
}

/// What a change of the state has left to its caller.
struct Change {
    now: Instant,
    /// A flight to start.
    flight: Option<Flight<Core>>,
    /// The end of the flight under way.
    end: Option<(End, FlightId)>,
}

// ===== impl Granted =====

impl Granted {
    fn new(grant: Grant, now: Instant) -> Self {
        let stamp = Stamp::new(&grant, now);
        Self { token: grant.token, stamp, watched: grant.watched }
    }

    /// A token that the state did not keep, for those who waited for it.
    pub(crate) fn once(token: AccessToken) -> Self {
        Self { token, stamp: Stamp::for_one_use(), watched: true }
    }
}

// ===== impl Waiting =====

/// Measures a wait, also of a caller who gives up.
#[cfg(feature = "metrics")]
struct Waiting(Instant);

#[cfg(feature = "metrics")]
impl Drop for Waiting {
    fn drop(&mut self) {
        observe::waited(self.0.elapsed());
    }
}
