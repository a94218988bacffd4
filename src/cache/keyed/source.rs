//! One key's source, over the source that all keys share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::outage::Outage;
use crate::{
    cache::{
        policy::{RECOVERY_INTERVAL, RefreshPolicy},
        sync::Lock,
    },
    challenge::Challenge,
    clock::later::Later,
    error::{CacheError, TokenError},
    key::{Subject, TokenKey, Unusable},
    source::{AnySource, TokenRequest, TokenSource},
    token::AccessToken,
};

/// The source of all keys, and whether it is out of order.
pub(super) struct Shared {
    source: Box<dyn AnySource>,
    suggested_timeout: Option<Duration>,
    outage: Lock<Outage>,
    recovery: Lock<Recovery>,
    keys: AtomicU64,
}

/// Whether the source has recovered, as it was last asked for any key.
#[derive(Default)]
struct Recovery {
    asked: Option<Instant>,
    answer: bool,
}

/// The source of one key's cache.
pub(super) struct KeySource {
    shared: Arc<Shared>,
    /// Distinguishes this key from others in an outage.
    nth: u64,
    held: Lock<Held>,
    has_succeeded: AtomicBool,
    /// Whether an outage held up its last attempt.
    is_held_up: AtomicBool,
}

/// The key of a fetch, which has the subject's token. It is dropped when it is no longer of use.
enum Held {
    Key(TokenKey),
    Unusable(Unusable),
    Forgotten,
}

/// An attempt. If it is dropped before its end, the token service took too long, unless the attempt
/// ended for another reason.
struct Attempt<'a> {
    of: &'a KeySource,
    begun: Instant,
    has_ended: bool,
}

/// The source of an unusable key.
pub(super) struct Failing(pub(super) TokenError);

// ===== impl Shared =====

impl Shared {
    pub(super) fn new(source: Box<dyn AnySource>, suggested_timeout: Option<Duration>) -> Self {
        Self {
            source,
            suggested_timeout,
            outage: Lock::default(),
            recovery: Lock::default(),
            keys: AtomicU64::new(0),
        }
    }

    pub(super) fn suggested_timeout(&self) -> Option<Duration> {
        self.suggested_timeout
    }

    /// Asks the source whether it has recovered; once a second, however many keys want to know.
    async fn recovered(&self) -> bool {
        let now = Instant::now();
        {
            let mut last = self.recovery.lock();
            if last.asked.is_some_and(|asked| now < asked.later(RECOVERY_INTERVAL)) {
                return last.answer;
            }
            *last = Recovery { asked: Some(now), answer: false };
        }
        let answer = self.source.recovered().await;
        self.recovery.lock().answer = answer;
        answer
    }

    pub(super) fn go_by(&self, policy: &Arc<RefreshPolicy>) {
        *self.outage.lock() = Outage::new(Arc::clone(policy));
    }
}

// ===== impl KeySource =====

impl KeySource {
    pub(super) fn new(shared: Arc<Shared>, key: TokenKey) -> Self {
        Self {
            nth: shared.keys.fetch_add(1, Relaxed),
            shared,
            held: Lock::new(Held::Key(key)),
            has_succeeded: AtomicBool::new(false),
            is_held_up: AtomicBool::new(false),
        }
    }

    pub(super) fn has_succeeded(&self) -> bool {
        self.has_succeeded.load(Relaxed)
    }

    pub(super) fn forget(&self) {
        *self.held.lock() = Held::Forgotten;
    }

    /// A request brings the key again. If its subject lives longer than the one that is held, a
    /// fetch takes that one.
    pub(super) fn brought_again(&self, key: &TokenKey) {
        let mut held = self.held.lock();
        let (lives_longer, was_unusable) = match &*held {
            Held::Key(known) => (key.outlives(known), false),
            Held::Unusable(_) => (true, true),
            Held::Forgotten => (false, false),
        };
        if lives_longer {
            *held = Held::Key(key.clone());
        }
        if was_unusable {
            // So the cooldown after that failure ends early.
            self.is_held_up.store(true, Relaxed);
        }
    }

    /// The key, if it is still of use.
    fn key(&self) -> Result<TokenKey, TokenError> {
        let mut held = self.held.lock();
        match &*held {
            Held::Key(key) => match key.usable(SystemTime::now()) {
                Ok(()) => Ok(key.clone()),
                Err(unusable) => {
                    *held = Held::Unusable(unusable.clone());
                    Err(unusable.into())
                }
            },
            Held::Unusable(unusable) => Err(unusable.clone().into()),
            Held::Forgotten => Err(CacheError::Forgotten.into()),
        }
    }

    /// Whether the token service may be asked for this key now.
    fn begin(&self) -> Result<Attempt<'_>, TokenError> {
        let may_try = self.shared.outage.lock().may_try(self.nth, Instant::now());
        self.is_held_up.store(may_try.is_err(), Relaxed);
        may_try.map(|()| Attempt { of: self, begun: Instant::now(), has_ended: false })
    }

    fn succeeded(&self) {
        self.has_succeeded.store(true, Relaxed);
        let spent = self.shared.outage.lock().succeeded();
        drop(spent);
    }

    fn failed(&self, error: &TokenError) {
        // What the source said was before this failure.
        self.shared.recovery.lock().answer = false;
        if error.concerns_key_only() {
            return self.undecided();
        }
        let random = fastrand::f64();
        let spent = self.shared.outage.lock().failed(self.nth, error, Instant::now(), random);
        drop(spent);
    }

    /// An attempt says nothing of the token service.
    fn undecided(&self) {
        self.shared.outage.lock().undecided(self.nth, Instant::now());
    }

    /// Keeps it from hearing that it is forgotten.
    #[cfg(test)]
    pub(super) fn hold(&self) -> impl Drop + '_ {
        self.held.lock()
    }

    fn is_forgotten(&self) -> bool {
        matches!(*self.held.lock(), Held::Forgotten)
    }
}

// ===== impl Attempt =====

impl Attempt<'_> {
    fn end(mut self, fetched: &Result<AccessToken, TokenError>) {
        self.has_ended = true;
        match fetched {
            Ok(_) => self.of.succeeded(),
            Err(error) => self.of.failed(error),
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        // Well before its time limit an attempt is dropped only by a runtime that shuts down.
        let limit = self.of.shared.outage.lock().attempt_limit();
        let is_early = self.begun.elapsed() < limit / 2;
        if is_early || std::thread::panicking() || self.of.is_forgotten() {
            self.of.undecided();
        } else {
            self.of.failed(&CacheError::FlightLost.into());
        }
    }
}

impl TokenSource for KeySource {
    async fn fetch(&self, request: TokenRequest) -> Result<AccessToken, TokenError> {
        let key = self.key()?;
        let attempt = self.begin()?;
        let end = key.subject().and_then(Subject::expiry);
        let called = SystemTime::now();
        let fetched = self.shared.source.fetch(request.with_key(key)).await;
        attempt.end(&fetched);
        let token = fetched?;
        // The subject may have expired meanwhile.
        self.key()?;
        Ok(match end {
            Some(end) => ending_with(token, end, called),
            None => token,
        })
    }

    fn can_satisfy(&self, challenge: &Challenge) -> bool {
        self.shared.source.can_satisfy(challenge)
    }

    /// Also `true` if another key has found out that the outage is over.
    async fn recovered(&self) -> bool {
        let outage = &self.shared.outage;
        if self.is_held_up.load(Relaxed) && outage.lock().is_over() {
            return true;
        }
        let recovered = self.shared.recovered().await;
        if recovered {
            outage.lock().recovered(Instant::now());
        }
        recovered
    }
}

/// Limits the token: it is not used after this time.
fn ending_with(token: AccessToken, end: SystemTime, called: SystemTime) -> AccessToken {
    let left = |end: SystemTime| end.duration_since(called).unwrap_or_default();
    let own = token.lifetime().or_else(|| token.expiry().map(left));
    match own {
        Some(own) if own <= left(end) => token,
        _ => token.with_lifetime(left(end)),
    }
}

impl TokenSource for Failing {
    async fn fetch(&self, _: TokenRequest) -> Result<AccessToken, TokenError> {
        Err(self.0.clone())
    }
}
