//! The token cache: holds the current token, decides when the next one is due, and shares one fetch
//! among many callers.

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
#[cfg(all(test, schedules))]
mod schedules;
mod state;
mod status;
mod sync;
mod tasks;

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
    clock::later::Later,
    error::{CacheError, TokenError},
    observe::{self, Label},
    origin::Origin,
    source::TokenSource,
    token::AccessToken,
};

/// Keeps a token and renews it. All clones share the one token.
///
/// Use it under a [`BearerAuthLayer`](crate::BearerAuthLayer), or alone in a program that needs
/// only a token.
///
/// A *flight* is one fetch with its attempts, which all callers share. It runs on a task of its
/// own, on the tokio runtime of the first caller, so that cancelling a caller does not end it.
/// Reading a usable token takes no lock, allocates nothing and starts no task.
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
/// Neither a failed fetch nor a rejection removes a token that has not expired: callers get it
/// until a newer one is here. After a failure the source cools down (see [`RefreshPolicyBuilder`]).
/// During the cooldown, callers without a token get the last error at once.
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

    /// A cache with this policy. If the policy [keeps it
    /// warm](crate::RefreshPolicyBuilder::keep_warm) and you call this on a tokio runtime, the
    /// cache starts to fetch at once.
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

    /// Names the cache, for all its handles, so that you can tell two clients of one token service
    /// apart. The name appears in every event (field `source`), every metric (label `source`), the
    /// [`Status`], and at the beginning of each [error](TokenError::source_name).
    ///
    /// A cache keeps its first name; an empty name does not count. A cache without a name has that
    /// of its [source](TokenSource::name), or else `default` in events and metrics. Choose one or
    /// two words from a closed set, and no secret: each name is a time series of its own. A cache
    /// whose policy keeps it warm may start to fetch before it has its name: name it first, and
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

    /// Returns the token, and fetches one if there is none. Many callers at once cause one fetch.
    ///
    /// If the token is due, this returns it at once and refreshes it in the background. It returns
    /// a rejected token only if no renewal is in progress.
    ///
    /// # Errors
    ///
    /// The error of the source, if there is no token and the source cools down or its fetch has
    /// failed; a [`CacheError`] if the wait took too long or there is no tokio runtime.
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

    /// Starts to fetch a first token in the background, so that no request has to wait for it.
    ///
    /// After a failure the cache tries again when the source has cooled down, until there is a
    /// token or the last handle is dropped. If there is a usable token already, this does nothing.
    /// Outside a tokio runtime, the cache starts as soon as you ask it for anything on one.
    ///
    /// This is for one token. A program that needs a token at any time, such as a service with a
    /// readiness probe, calls [`keep_warm`](Self::keep_warm). A program that must know how the
    /// first fetch ends calls [`get`](Self::get).
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

    /// Keeps the cache warm from now on.
    /// [`RefreshPolicyBuilder::keep_warm`](crate::RefreshPolicyBuilder::keep_warm) does the same,
    /// but starts when the cache is made. With this method a program can make its caches, name them
    /// and check the rest of its configuration before they fetch anything.
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

    /// The token, if there is one that has not expired. This never fetches.
    #[must_use]
    pub fn current(&self) -> Option<AccessToken> {
        let published = self.core.published.token().map(|(token, _)| token);
        published.or_else(|| self.core.shared.lock().state.token(Instant::now()).cloned())
    }

    /// Returns a token other than the rejected one: the current token if it is newer, else the one
    /// that the flight in progress returns, or a new one.
    ///
    /// # Errors
    ///
    /// The error of the source, if it fails or cools down; a [`CacheError`] if the source returns
    /// the rejected token again, the origin backs off, the challenge says that no new token can
    /// help, the wait took too long or there is no tokio runtime. The rejected token stays in use.
    ///
    /// ```
    /// use tower_bearer::{AccessToken, Rejection, TokenCache, TokenError, TokenRequest, from_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), TokenError> {
    /// # let source = from_fn(|request: TokenRequest| async move {
    /// #     AccessToken::new(format!("{:?}", request.reason())).map_err(TokenError::permanent)
    /// # });
    /// let cache = TokenCache::new(source);
    /// let token = cache.get().await?;
    /// // Your own client has sent it, and the API has answered 401.
    /// let newer = cache.renew(Rejection::new(token.clone())).await?;
    /// assert_ne!(newer.secret(), token.secret());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn renew(&self, mut rejection: Rejection) -> Result<AccessToken, TokenError> {
        observe::renewing(self.label(), rejection.origin.as_ref());
        self.check_satisfiable(&mut rejection).map_err(|error| self.label().on(error.into()))?;
        let end = Instant::now().later(self.core.policy.wait_limit());
        loop {
            let asked =
                self.core.decide(|state, now| state.reject(&rejection, RejectedBy::Waiter, now));
            let (outcome, ask_again) = match asked {
                Asked::Token(granted) => return Ok(granted.token),
                Asked::Error(error) => return Err(error),
                Asked::Wait(mut wait) => (self.core.wait(&mut wait, end).await, wait.ask_again),
            };
            match outcome {
                // The caller that asked for that flight reports its failure.
                _ if ask_again && Instant::now() < end => {}
                // A flight that started before the rejection may return the rejected token. The
                // caller then asks for another one.
                Ok(token) if token.is_same(&rejection.token) => {}
                outcome => return outcome,
            }
        }
    }

    /// Fetches a new token now, although none was rejected and the current one may live for long:
    /// for instance because a role was granted that only a new token has.
    ///
    /// Requests go on using the current token meanwhile. Many callers at once cause one fetch, and
    /// a fetch in progress for another reason counts too. There is at most one fetch for each
    /// [`background_interval`](RefreshPolicyBuilder::background_interval): a call that comes sooner
    /// gets the current token. So does a call for which the source has no newer token.
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
        let end = Instant::now().later(self.core.policy.wait_limit());
        match self.core.decide(State::refresh) {
            Asked::Token(granted) => Ok(granted.token),
            Asked::Error(error) => Err(error),
            // The caller learns of a failure, even if there is a token. That a renewal brought the
            // same token again is none to this caller.
            Asked::Wait(mut wait) => match self.core.wait(&mut wait, end).await {
                Err(error) if error.downcast_ref() == Some(&CacheError::SameToken) => {
                    self.current().ok_or(error)
                }
                outcome => outcome,
            },
        }
    }

    /// Starts a renewal in the background: [`renew`](Self::renew) without waiting. Requests to the
    /// rejection's origin wait for it, even if the origin accepted the token before. Call this for
    /// a rejection that no layer can see.
    pub fn reject(&self, rejection: Rejection) {
        self.reject_by(RejectedBy::Caller, rejection);
    }

    /// The same, for a layer that cannot send the rejected request again.
    pub(crate) fn reject_in_background(&self, rejection: Rejection) {
        self.reject_by(RejectedBy::Layer, rejection);
    }

    fn reject_by(&self, by: RejectedBy, mut rejection: Rejection) {
        observe::renewing(self.label(), rejection.origin.as_ref());
        let asked = match self.check_satisfiable(&mut rejection) {
            Ok(()) => self.core.decide(|state, now| state.reject(&rejection, by, now)),
            Err(error) => Asked::Error(error.into()),
        };
        if let Asked::Error(error) = asked {
            observe::renewal_failed(self.label(), &error);
        }
    }

    /// Reports that a request with this token was accepted: the token is proven at this origin, and
    /// the origin's renewal backoff is over. If you call [`renew`](Self::renew) or
    /// [`reject`](Self::reject), call this too; otherwise every renewed token counts as unproven.
    /// The layer does so by itself.
    pub fn accepted(&self, token: &AccessToken, origin: Option<&Origin>) {
        self.core.accepted(token, origin);
    }

    /// The current status of the cache.
    #[must_use]
    pub fn status(&self) -> Status {
        self.core.leave_keeper();
        self.core.status()
    }

    /// The current status, and then the status each time that a flight starts or ends. A slow
    /// reader sees only the newest. The stream does not keep the cache alive: it ends when the
    /// cache does.
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

    /// Asks the state for a token to send to this origin.
    pub(crate) fn ask(&self, origin: Option<&Origin>) -> Asked {
        match self.core.decide(|state, now| state.ask(origin, now)) {
            // Where nobody can wait for a renewal, the suspect token is what there is.
            Asked::Error(error) => {
                let current = self.current().map(Granted::once);
                current.map_or(Asked::Error(error), Asked::Token)
            }
            asked => asked,
        }
    }

    /// What the state grants to a request for this origin, without a fetch.
    pub(crate) fn granted(&self, origin: Option<&Origin>) -> Option<Granted> {
        let now = Instant::now();
        let grant = self.core.shared.lock().state.granted(origin, now)?;
        Some(Granted::new(grant, now))
    }

    /// The part of [`get`](Self::get) that waits.
    pub(crate) async fn wait(&self, wait: &mut Wait) -> Outcome {
        let end = Instant::now().later(self.core.policy.wait_limit());
        let outcome = self.core.wait(wait, end).await;
        // After a failed renewal the suspect token is still of use: a 401 is one server's opinion.
        outcome.or_else(|error| self.current().ok_or(error))
    }

    /// Whether the grant with this stamp still holds.
    #[inline]
    pub(crate) fn holds(&self, stamp: &Stamp) -> bool {
        self.core.published.holds(stamp)
    }

    /// Whether the token was removed for good.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.core.is_forgotten()
    }

    /// Whether a flight is in progress.
    #[cfg(feature = "keyed")]
    fn is_fetching(&self) -> bool {
        self.core.shared.lock().state.flight().is_some()
    }

    /// Removes the token for good: gives up the flight in progress, and fetches nothing more.
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

    /// Reports a use of the token whose grant has this stamp.
    #[inline]
    pub(crate) fn observe_use(&self, stamp: &Stamp) {
        stamp.observe_use(|| self.label());
    }

    /// The name of the cache, for events and metrics.
    pub(crate) fn label(&self) -> &Label {
        self.core.label()
    }

    /// Whether both are handles of one cache.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }

    /// Runs `work` while this thread holds the state's lock.
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

    fn check_satisfiable(&self, rejection: &mut Rejection) -> Result<(), CacheError> {
        let Some(challenge) = &rejection.challenge else { return Ok(()) };
        rejection.is_satisfiable = self.core.source.can_satisfy(challenge);
        match challenge.unsatisfiable() {
            Some(why) if !rejection.is_satisfiable => Err(CacheError::Unsatisfiable(why)),
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

    fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").field("status", &self.core.status()).finish_non_exhaustive()
    }
}
