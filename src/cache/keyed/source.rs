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
    cache::{policy::RefreshPolicy, sync::Lock},
    challenge::Challenge,
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
    keys: AtomicU64,
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

/// An attempt. If it is dropped before its end, the token service took too long.
struct Attempt<'a> {
    of: &'a KeySource,
    has_ended: bool,
}

/// The source of an unusable key.
pub(super) struct Failing(pub(super) TokenError);

// ===== impl Shared =====

impl Shared {
    pub(super) fn new(source: Box<dyn AnySource>, suggested_timeout: Option<Duration>) -> Self {
        Self { source, suggested_timeout, outage: Lock::default(), keys: AtomicU64::new(0) }
    }

    pub(super) fn suggested_timeout(&self) -> Option<Duration> {
        self.suggested_timeout
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
        may_try.map(|()| Attempt { of: self, has_ended: false })
    }

    fn succeeded(&self) {
        self.has_succeeded.store(true, Relaxed);
        self.shared.outage.lock().succeeded();
    }

    fn failed(&self, error: &TokenError) {
        if error.concerns_key_only() {
            return self.said_nothing();
        }
        let random = fastrand::f64();
        self.shared.outage.lock().failed(self.nth, error, Instant::now(), random);
    }

    fn said_nothing(&self) {
        self.shared.outage.lock().said_nothing(self.nth, Instant::now());
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
        if std::thread::panicking() || self.of.is_forgotten() {
            self.of.said_nothing();
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
        let recovered = self.shared.source.recovered().await;
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
