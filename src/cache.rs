//! The token cache: holds the current token, decides when the next is due, and makes many
//! askers share one fetch.

mod flight;
mod news;
mod policy;
mod ready;
mod rejection;
mod rest;
mod state;
mod status;
mod strikes;
mod sync;

use std::{fmt, pin::pin, sync::Arc, time::Duration};

use futures_util::{
    Stream, StreamExt,
    future::{Either, select},
    stream,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use self::{
    flight::{Manifest, Outcome, Seat},
    news::News,
    ready::Ready,
    state::{Answer, Arrival, FlightId, State, Takeoff},
    sync::{Lock, Published},
};
pub use self::{
    policy::{InvalidPolicy, RefreshPolicy, RefreshPolicyBuilder},
    rejection::Rejection,
    status::Status,
};
use crate::{
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
/// out until a newer one is here. After a failure the source rests (see
/// [`RefreshPolicyBuilder`]); who asks meanwhile, while there is no token, gets the last error
/// at once.
#[derive(Clone)]
pub struct TokenCache {
    core: Arc<Core>,
}

struct Core {
    source: Box<dyn AnySource>,
    policy: RefreshPolicy,
    ready: Published<Ready>,
    ledger: Lock<Ledger>,
    changes: watch::Sender<Status>,
}

/// What the lock guards: the state, and the seats of the flight that it says is under way.
struct Ledger {
    state: State,
    seat: Option<Seat>,
}

/// What somebody who wants a token gets, with the flight to wait for.
#[derive(Debug)]
pub(crate) enum Asked {
    Token(AccessToken),
    Wait(Wait),
    Error(TokenError),
}

/// A flight that is awaited.
#[derive(Debug)]
pub(crate) struct Wait {
    seat: Seat,
    flight: FlightId,
    lost_at: Instant,
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
            ready: Published::empty(),
            ledger: Lock::new(Ledger { state, seat: None }),
            changes,
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
    /// The error of the source, while there is no token and the source rests or its fetch has
    /// failed; a [`CacheError`] if the wait took too long or there is no tokio runtime.
    pub async fn get(&self) -> Result<AccessToken, TokenError> {
        match self.ask() {
            Asked::Token(token) => Ok(token),
            Asked::Error(error) => Err(error),
            Asked::Wait(wait) => self.wait(wait).await,
        }
    }

    /// The token, if there is one that has not expired. It only looks: nothing is fetched.
    #[must_use]
    pub fn current(&self) -> Option<AccessToken> {
        let now = Instant::now();
        self.core.ready_token(now).or_else(|| self.core.ledger.lock().state.current(now).cloned())
    }

    /// A token other than the rejected one: the current one if it is newer, else what the
    /// flight under way brings, or a new one.
    ///
    /// # Errors
    ///
    /// The error of the source, if it fails or rests; a [`CacheError`] if the source returns
    /// the rejected token again, the origin has strikes, the challenge says that a new token is
    /// no cure, the wait took too long or there is no tokio runtime. The token that was
    /// rejected stays in use.
    pub async fn renew(&self, rejection: Rejection) -> Result<AccessToken, TokenError> {
        observe::renewing(rejection.origin.as_ref());
        self.check_cure(&rejection)?;
        let end = Instant::now() + self.core.policy.wait_limit();
        loop {
            let asked = self.core.decide(|state, now| state.reject(&rejection, true, now));
            let token = match asked {
                Asked::Token(token) => token,
                Asked::Error(error) => return Err(error),
                Asked::Wait(wait) => self.core.wait(wait, end).await?,
            };
            // A flight that had begun before the rejection may bring the rejected token: then
            // another is asked for, which is told.
            if !token.is_same(&rejection.token) {
                return Ok(token);
            }
        }
    }

    /// The same without waiting: a renewal in the background.
    #[expect(clippy::needless_pass_by_value, reason = "the rejection is spent, as by `renew`")]
    pub fn reject(&self, rejection: Rejection) {
        observe::renewing(rejection.origin.as_ref());
        let asked = match self.check_cure(&rejection) {
            Ok(()) => self.core.decide(|state, now| state.reject(&rejection, false, now)),
            Err(error) => Asked::Error(error.into()),
        };
        if let Asked::Error(error) = asked {
            observe::renewal_failed(&error);
        }
    }

    /// Says that a request with this token was accepted there: it is proven, and the strikes
    /// of that origin are forgotten. Who calls [`renew`](Self::renew) or
    /// [`reject`](Self::reject) should call this too, else every renewed token counts as
    /// unproven; the layer does so by itself.
    pub fn accepted(&self, token: &AccessToken, origin: Option<&Origin>) {
        self.core.accepted(token, origin);
    }

    /// How the cache is doing now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.core.ledger.lock().state.status(Instant::now())
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

    /// What [`get`](Self::get) does before it waits.
    pub(crate) fn ask(&self) -> Asked {
        let now = Instant::now();
        let ready = self.core.ready_token(now);
        let asked = ready.map_or_else(|| self.core.decide(State::ask), Asked::Token);
        #[cfg(feature = "metrics")]
        if let Asked::Token(_) = asked {
            self.core.observe_use(now);
        }
        asked
    }

    /// What [`get`](Self::get) does when it waits.
    pub(crate) async fn wait(&self, wait: Wait) -> Outcome {
        let end = Instant::now() + self.core.policy.wait_limit();
        let outcome = self.core.wait(wait, end).await;
        // A renewal that failed leaves the suspect token: a 401 is one server's opinion.
        outcome.or_else(|error| self.current().ok_or(error))
    }

    /// How long a caller is to wait for anything, at most.
    pub(crate) fn wait_limit(&self) -> Duration {
        self.core.policy.wait_limit()
    }

    /// Whether both are handles of one cache.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }

    fn check_cure(&self, rejection: &Rejection) -> Result<(), CacheError> {
        let Some(challenge) = &rejection.challenge else { return Ok(()) };
        match challenge.no_cure() {
            Some(why) if !self.core.source.can_satisfy(challenge) => Err(CacheError::NoCure(why)),
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
    /// The published token, while it may be used with no further question.
    fn ready_token(&self, now: Instant) -> Option<AccessToken> {
        self.ready.read(|ready| ready?.token_at(now).cloned())
    }

    #[cfg(feature = "metrics")]
    fn observe_use(&self, now: Instant) {
        self.ready.read(|ready| {
            if let Some(ready) = ready {
                let left = ready.expired.map(|at| at.saturating_duration_since(now));
                observe::used(ready.suspect, left);
            }
        });
    }

    /// Puts a question to the state, and starts the flight that it asks for.
    fn decide(
        self: &Arc<Self>,
        question: impl FnOnce(&mut State, Instant) -> (Answer, Option<Takeoff>),
    ) -> Asked {
        let (asked, flight) = self.change(|ledger, now| {
            let (answer, takeoff) = question(&mut ledger.state, now);
            let flight = takeoff.map(|takeoff| self.prepare(ledger, takeoff));
            (ledger.asked(answer), flight)
        });
        if let (Asked::Wait(_), None) = (&asked, &flight) {
            observe::shared_a_flight();
        }
        match (asked, self.start(flight)) {
            // To wait takes a timer; to use a token takes nothing.
            (Asked::Wait(_), Err(error)) => Asked::Error(error.into()),
            (Asked::Wait(wait), Ok(())) => match flight::runtime() {
                Ok(_) => Asked::Wait(wait),
                Err(error) => Asked::Error(error.into()),
            },
            (Asked::Error(error), _) => {
                self.probe();
                Asked::Error(error)
            }
            (token, _) => token,
        }
    }

    fn tend(self: &Arc<Self>) {
        let flight = self.change(|ledger, now| {
            ledger.state.tend(now).map(|takeoff| self.prepare(ledger, takeoff))
        });
        // Without a runtime the flight is lost, which is told.
        drop(self.start(flight));
    }

    fn accepted(&self, token: &AccessToken, origin: Option<&Origin>) {
        let is_news =
            self.ready.read(|ready| ready.is_none_or(|ready| ready.is_news(token, origin)));
        if is_news {
            self.change(|ledger, _| ledger.state.accepted(token, origin));
        }
    }

    fn land(&self, id: FlightId, outcome: Result<Arrival, TokenError>) -> Option<Outcome> {
        let ended =
            self.change(|ledger, now| ledger.state.landed(id, outcome, now, fastrand::f64()))?;
        ended.observe();
        self.tell();
        Some(ended.outcome)
    }

    fn lose(&self, id: FlightId, why: &CacheError) {
        if let Some(ended) = self.change(|ledger, now| ledger.state.lost(id, why, now)) {
            ended.observe();
            self.tell();
        }
    }

    fn tend_at(&self) -> Option<Instant> {
        self.ledger.lock().state.tend_at(Instant::now())
    }

    fn flights(&self) -> FlightId {
        self.ledger.lock().state.flights()
    }

    /// Waits for the landing, until the flight counts as lost or the caller's time is over.
    async fn wait(&self, wait: Wait, end: Instant) -> Outcome {
        #[cfg(feature = "metrics")]
        let _waiting = Waiting(Instant::now());
        let time_is_over = pin!(sleep_until(wait.lost_at.min(end)));
        match select(wait.seat, time_is_over).await {
            Either::Left((Ok(outcome), _)) => outcome,
            Either::Left((Err(_gone), _)) => Err(CacheError::FlightLost.into()),
            Either::Right(_) if wait.lost_at <= end => {
                self.lose(wait.flight, &CacheError::FlightLost);
                Err(CacheError::FlightLost.into())
            }
            Either::Right(_) => Err(CacheError::WaitTimeout(self.policy.wait_limit()).into()),
        }
    }

    fn prepare(self: &Arc<Self>, ledger: &mut Ledger, takeoff: Takeoff) -> Manifest {
        let (manifest, seat) = Manifest::new(Arc::clone(self), takeoff);
        ledger.seat = Some(seat);
        manifest
    }

    fn start(&self, flight: Option<Manifest>) -> Result<(), CacheError> {
        let Some(flight) = flight else { return Ok(()) };
        match flight::runtime() {
            Ok(runtime) => {
                flight.fly(&runtime);
                self.tell();
                Ok(())
            }
            Err(error) => {
                flight.lose(&error);
                Err(error)
            }
        }
    }

    /// While the source rests after a permanent failure: asks it, in the background, whether
    /// somebody has mended it.
    fn probe(self: &Arc<Self>) {
        let may_probe = self.ledger.lock().state.may_probe(Instant::now());
        let Some(Ok(runtime)) = may_probe.then(flight::runtime) else { return };
        let core = Arc::clone(self);
        runtime.spawn(async move {
            let limit = core.policy.attempt_timeout;
            if let Ok(true) = timeout(limit, core.source.recovered()).await {
                core.change(|ledger, _| ledger.state.recovered());
                core.tell();
            }
        });
    }

    /// Changes what the lock guards, and publishes what came of it.
    fn change<R>(&self, change: impl FnOnce(&mut Ledger, Instant) -> R) -> R {
        let now = Instant::now();
        let mut ledger = self.ledger.lock();
        let result = change(&mut ledger, now);
        self.ready.publish(ledger.state.ready(now));
        let (news, seat) = ledger.sweep();
        drop(ledger);
        drop(seat);
        news.observe();
        result
    }

    /// Tells the subscribers. The status is taken inside, so that the newest one comes last.
    fn tell(&self) {
        let mut before = None;
        self.changes.send_modify(|status| {
            let now = self.ledger.lock().state.status(Instant::now());
            before = Some(std::mem::replace(status, now));
        });
        drop(before);
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

// ===== impl Ledger =====

impl Ledger {
    fn asked(&self, answer: Answer) -> Asked {
        match answer {
            Answer::Token(token) => Asked::Token(token),
            Answer::Error(error) => Asked::Error(error),
            Answer::Wait(lost_at) => Asked::Wait(Wait {
                seat: self.seat.clone().expect("a flight under way has a seat"),
                flight: self.state.flights(),
                lost_at,
            }),
        }
    }

    /// What is to be dropped outside of the lock: it may run code of the user's types.
    fn sweep(&mut self) -> (News, Option<Seat>) {
        let over = !self.state.is_fetching();
        (std::mem::take(&mut self.state.news), self.seat.take_if(|_| over))
    }
}
