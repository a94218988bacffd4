//! The tests' token source in memory: it hands out `t1`, `t2`, ….
#![allow(dead_code, reason = "no test needs all of it")]

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tower_bearer::{AccessToken, TokenError, TokenRequest, TokenSource};

/// Answers at once, with tokens that have no lifetime, unless the test sets something else. Every
/// clone is the same source.
#[derive(Clone, Default)]
pub(crate) struct Mint(Arc<Inner>);

#[derive(Default)]
struct Inner {
    fetches: AtomicUsize,
    recovery_checks: AtomicUsize,
    settings: Mutex<Settings>,
}

#[derive(Clone, Default)]
struct Settings {
    delay: Duration,
    lifetime: Option<Duration>,
    error: Option<TokenError>,
    always: Option<AccessToken>,
    recovers_after: Option<usize>,
    attempt_timeout: Option<Duration>,
}

impl Mint {
    /// Tokens live for that long.
    pub(crate) fn living(lifetime: Duration) -> Self {
        let mint = Self::default();
        mint.settings().lifetime = Some(lifetime);
        mint
    }

    /// Each fetch takes that long.
    pub(crate) fn taking(delay: Duration) -> Self {
        let mint = Self::default();
        mint.delay_by(delay);
        mint
    }

    pub(crate) fn delay_by(&self, delay: Duration) {
        self.settings().delay = delay;
    }

    /// Fails from now on; with `None`, no longer.
    pub(crate) fn fail_with(&self, error: impl Into<Option<TokenError>>) {
        self.settings().error = error.into();
    }

    /// Hands out this token from now on.
    pub(crate) fn always(&self, token: AccessToken) {
        self.settings().always = Some(token);
    }

    /// Says that it has recovered once it has been asked more often than that.
    pub(crate) fn recover_after(&self, checks: usize) {
        self.settings().recovers_after = Some(checks);
    }

    /// Suggests that an attempt may take that long.
    pub(crate) fn suggest_timeout(&self, timeout: Duration) {
        self.settings().attempt_timeout = Some(timeout);
    }

    /// How many fetches have begun.
    pub(crate) fn fetches(&self) -> usize {
        self.0.fetches.load(SeqCst)
    }

    /// How often it was asked whether it has recovered.
    pub(crate) fn recovery_checks(&self) -> usize {
        self.0.recovery_checks.load(SeqCst)
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.0.settings.lock().unwrap()
    }
}

impl TokenSource for Mint {
    async fn fetch(&self, _: TokenRequest) -> Result<AccessToken, TokenError> {
        let nth = self.0.fetches.fetch_add(1, SeqCst) + 1;
        let delay = self.settings().delay;
        // Without a runtime there is no timer.
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let Settings { lifetime, error, always, .. } = self.settings().clone();
        if let Some(error) = error {
            return Err(error);
        }
        if let Some(token) = always {
            return Ok(token);
        }
        let token = AccessToken::new(format!("t{nth}")).unwrap();
        Ok(lifetime.into_iter().fold(token, AccessToken::with_lifetime))
    }

    async fn recovered(&self) -> bool {
        let checks = self.0.recovery_checks.fetch_add(1, SeqCst);
        self.settings().recovers_after.is_some_and(|after| checks >= after)
    }

    fn attempt_timeout(&self) -> Option<Duration> {
        self.settings().attempt_timeout
    }
}
