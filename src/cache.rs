//! The token cache: holds the current token, decides when the next is due, and makes many
//! askers share one fetch.

mod answer;
mod cooldown;
mod core;
mod effects;
mod failures;
mod flight;
mod keeper;
#[cfg(feature = "keyed")]
pub(crate) mod keyed;
mod names;
mod origins;
mod policy;
mod published;
mod rejection;
mod state;
mod status;
mod sync;

use std::{
    fmt,
    sync::{Arc, Weak},
};

use futures_util::{Stream, StreamExt, stream};
use tokio::{sync::watch, time::Instant};

use self::{
    answer::RejectedBy,
    core::Core,
    flight::Outcome,
    state::{State, Wanted},
};
pub(crate) use self::{
    core::{Asked, Granted, Wait},
    published::Stamp,
};
pub use self::{
    policy::{InvalidPolicy, RefreshPolicy, RefreshPolicyBuilder},
    rejection::Rejection,
    status::Status,
};
use crate::{
    error::{CacheError, TokenError},
    observe::{self, Label},
    origin::Origin,
    source::TokenSource,
    token::AccessToken,
};

/// Keeps a token and renews it. Every clone shares the one token.
///
/// Use it under a [`BearerAuthLayer`](crate::BearerAuthLayer), or alone where a program wants
/// just a token.
///
/// A fetch runs on a task of its own on the tokio runtime of whoever asked first, so whoever
/// asked may be dropped or cancelled. A *flight* is one fetch with its attempts, which all callers
/// share. With a usable token nothing of this is touched: reading it takes no lock, allocates
/// nothing and starts no task.
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

// ===== impl TokenCache =====

impl TokenCache {
    /// A cache with the default [`RefreshPolicy`].
    #[must_use]
    pub fn new(source: impl TokenSource) -> Self {
        Self::with_policy(source, RefreshPolicy::default())
    }

    /// A cache that goes by that policy. One that is
    /// [kept warm](crate::RefreshPolicyBuilder::keep_warm) fetches from now on, if this is called
    /// on a tokio runtime.
    #[must_use]
    pub fn with_policy(source: impl TokenSource, policy: RefreshPolicy) -> Self {
        let policy = policy.for_source(source.attempt_timeout());
        let label = Label::new(source.name().map(Arc::from));
        Self::labelled(source, policy.shared(), label)
    }

    fn labelled(source: impl TokenSource, policy: Arc<RefreshPolicy>, label: Label) -> Self {
        let core = Arc::new(Core::new(Box::new(source), policy, label));
        core.leave_keeper();
        Self { core }
    }

    /// Names the cache, for all its handles: so that two clients of one token service can be told
    /// apart. The name is in every event (field `source`), every metric (label `source`), the
    /// [`Status`], and at the beginning of each [error](TokenError::source_name).
    ///
    /// A cache keeps its first name; an empty one is none. Without a name it has that of its
    /// [source](TokenSource::name), and without that it is `default` in events and metrics. A
    /// name is a word or two from a closed set, and no secret: each is a time series of its own.
    /// A cache whose policy keeps it warm may begin to fetch before it has its name: name it, and
    /// then call [`keep_warm`](Self::keep_warm).
    ///
    /// ```
    /// use tower_bearer::{TokenCache, TokenError, from_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let source = from_fn(|_| async { Err(TokenError::permanent("no such client")) });
    /// let cache = TokenCache::new(source).named("billing");
    /// assert_eq!(cache.get().await.unwrap_err().to_string(), "billing: no such client");
    /// # }
    /// ```
    #[must_use]
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let label = Label::new(Some(name.into()));
        if label.name().is_some() {
            self.core.name(label);
        }
        self
    }

    /// The name of the cache, or else of its source.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.label().name()
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
                Asked::Wait(mut wait) => self.wait(&mut wait).await,
            },
        }
    }

    /// Fetches a first token in the background, without waiting for it: so that no request has to.
    ///
    /// After a failure it is tried again when the source has cooled down, until there is a token
    /// or the last handle is dropped. Nothing happens if there is a usable token already. Outside
    /// of a tokio runtime the cache begins as soon as it is asked anything on one.
    ///
    /// This is for one token. A program that is to have one at any time, such as a service with a
    /// readiness probe, calls [`keep_warm`](Self::keep_warm). One that has to know how the first fetch ends calls [`get`](Self::get).
    ///
    /// ```
    /// # use tower_bearer::{AccessToken, TokenCache, TokenError, from_fn};
    /// use futures_util::StreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let source = from_fn(|_| async { AccessToken::new("abc").map_err(TokenError::permanent) });
    /// let cache = TokenCache::new(source);
    /// cache.warm_up();
    /// // Later, or never:
    /// let mut ready = cache.subscribe().filter(|status| std::future::ready(status.has_token()));
    /// assert!(ready.next().await.is_some());
    /// # }
    /// ```
    pub fn warm_up(&self) {
        self.core.want(Wanted::First);
    }

    /// Keeps the cache warm from now on: as
    /// [`RefreshPolicyBuilder::keep_warm`](crate::RefreshPolicyBuilder::keep_warm) does, which
    /// starts when the cache is made. So a program may make its caches, name them and check the rest
    /// of its configuration before anything is fetched.
    ///
    /// ```
    /// # use tower_bearer::{AccessToken, TokenCache, TokenError, from_fn};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let source = from_fn(|_| async { AccessToken::new("abc").map_err(TokenError::permanent) });
    /// let cache = TokenCache::new(source).named("billing");
    /// cache.keep_warm();
    /// # }
    /// ```
    pub fn keep_warm(&self) {
        self.core.want(Wanted::Always);
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
        observe::renewing(self.label(), rejection.origin.as_ref());
        self.check_satisfiable(&rejection).map_err(|error| self.label().on(error.into()))?;
        let end = Instant::now() + self.core.policy.wait_limit();
        loop {
            let asked =
                self.core.decide(|state, now| state.reject(&rejection, RejectedBy::Waiter, now));
            let (outcome, ask_again) = match asked {
                Asked::Token(granted) => return Ok(granted.token),
                Asked::Error(error) => return Err(error),
                Asked::Wait(mut wait) => (self.core.wait(&mut wait, end).await, wait.ask_again),
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

    /// A new token now, although none was rejected and the current one may be good for long: for
    /// instance because a role was granted that only a new token has.
    ///
    /// Requests go on using the current token meanwhile. Many callers at once cause one fetch; a
    /// fetch that is under way for another reason counts too. There is at most one fetch for each
    /// [`background_interval`](RefreshPolicyBuilder::background_interval): a call that comes sooner
    /// gets the current token. So does one whose source has no newer token to give.
    ///
    /// # Errors
    ///
    /// The error of the source, if it fails or cools down; a [`CacheError`] if the wait took too
    /// long or there is no tokio runtime. The current token stays in use.
    ///
    /// ```
    /// # use tower_bearer::{AccessToken, TokenCache, TokenError, TokenRequest, from_fn};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), TokenError> {
    /// # let source = from_fn(|request: TokenRequest| async move {
    /// #     AccessToken::new(format!("{:?}", request.reason())).map_err(TokenError::permanent)
    /// # });
    /// let cache = TokenCache::new(source);
    /// let before = cache.get().await?;
    /// let after = cache.refresh().await?;
    /// assert_ne!(before.secret(), after.secret());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn refresh(&self) -> Result<AccessToken, TokenError> {
        let end = Instant::now() + self.core.policy.wait_limit();
        match self.core.decide(State::refresh) {
            Asked::Token(granted) => Ok(granted.token),
            Asked::Error(error) => Err(error),
            // A failure is told, although there may be a token.
            Asked::Wait(mut wait) => self.core.wait(&mut wait, end).await,
        }
    }

    /// A renewal in the background: [`renew`](Self::renew) without waiting. Requests to that origin
    /// wait for it, even if the token was accepted there before: tell this what no layer can see.
    #[expect(clippy::needless_pass_by_value, reason = "the rejection is spent, as by `renew`")]
    pub fn reject(&self, rejection: Rejection) {
        self.reject_by(RejectedBy::Caller, &rejection);
    }

    /// The same for a layer that cannot send the rejected request again.
    pub(crate) fn reject_in_background(&self, rejection: &Rejection) {
        self.reject_by(RejectedBy::Layer, rejection);
    }

    fn reject_by(&self, by: RejectedBy, rejection: &Rejection) {
        observe::renewing(self.label(), rejection.origin.as_ref());
        let asked = match self.check_satisfiable(rejection) {
            Ok(()) => self.core.decide(|state, now| state.reject(rejection, by, now)),
            Err(error) => Asked::Error(error.into()),
        };
        if let Asked::Error(error) = asked {
            observe::renewal_failed(self.label(), &error);
        }
    }

    /// Says that a request with this token was accepted there: it is proven, and the renewal
    /// backoff of that origin is over. If you call [`renew`](Self::renew) or
    /// [`reject`](Self::reject), call this too, else every renewed token counts as unproven; the
    /// layer does so by itself.
    pub fn accepted(&self, token: &AccessToken, origin: Option<&Origin>) {
        self.core.accepted(token, origin);
    }

    /// How the cache is doing now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.core.leave_keeper();
        self.core.status()
    }

    /// The status now, and then each time that a flight has started or ended; a slow reader
    /// sees the newest. The stream does not keep the cache alive: it ends with it.
    pub fn subscribe(&self) -> impl Stream<Item = Status> + Send + Unpin + use<> {
        self.core.leave_keeper();
        let mut changes = self.core.subscribe();
        changes.mark_changed();
        let from = (changes, Arc::downgrade(&self.core));
        let next = |(mut changes, core): (watch::Receiver<()>, Weak<Core>)| async {
            changes.changed().await.ok()?;
            let status = core.upgrade()?.status();
            Some((status, (changes, core)))
        };
        stream::unfold(from, next).boxed()
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
    pub(crate) async fn wait(&self, wait: &mut Wait) -> Outcome {
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

    /// Whether a flight is under way.
    #[cfg(feature = "keyed")]
    fn is_fetching(&self) -> bool {
        self.core.shared.lock().state.flight().is_some()
    }

    /// Takes the token away for good: what is in flight is given up, and nothing more is fetched.
    #[cfg(feature = "keyed")]
    fn forget(&self) {
        self.core.forget();
    }

    /// Whether there are other handles.
    #[cfg(feature = "keyed")]
    fn is_shared(&self) -> bool {
        Arc::strong_count(&self.core) > 1
    }

    #[cfg(feature = "keyed")]
    fn downgrade(&self) -> WeakTokenCache {
        WeakTokenCache(Arc::downgrade(&self.core))
    }

    /// Tells that a token is used, which was granted so.
    #[inline]
    pub(crate) fn observe_use(&self, stamp: &Stamp) {
        stamp.observe_use(|| self.label());
    }

    /// Whose tokens these are, for events and metrics.
    pub(crate) fn label(&self) -> &Label {
        self.core.label()
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
        self.observe_use(&stamp);
        Some(token)
    }

    fn check_satisfiable(&self, rejection: &Rejection) -> Result<(), CacheError> {
        let Some(challenge) = &rejection.challenge else { return Ok(()) };
        match challenge.unsatisfiable() {
            Some(why) if !self.core.source.can_satisfy(challenge) => {
                Err(CacheError::Unsatisfiable(why))
            }
            _ => Ok(()),
        }
    }
}

/// A handle that does not keep the cache alive.
#[cfg(feature = "keyed")]
struct WeakTokenCache(Weak<Core>);

#[cfg(feature = "keyed")]
impl WeakTokenCache {
    fn upgrade(&self) -> Option<TokenCache> {
        self.0.upgrade().map(|core| TokenCache { core })
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").field("status", &self.core.status()).finish_non_exhaustive()
    }
}
