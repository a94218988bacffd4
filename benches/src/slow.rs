//! Tokens that take a while.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tower_bearer::{
    AccessToken, BearerAuthLayer, RefreshPolicy, TokenCache, TokenError, TokenSource, from_fn,
};

use crate::{ORIGIN, token};

/// A token service that takes so long, and remembers when it was asked. A clone is another handle.
#[derive(Clone, Debug)]
pub struct Slow(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    takes: Duration,
    lifetime: Duration,
    refresh_in: Option<Duration>,
    fetches: Mutex<Vec<Fetch>>,
}

/// When it began, and when it ended, if it has.
pub type Fetch = (Instant, Option<Instant>);

impl Slow {
    /// Its tokens live for an hour.
    #[must_use]
    pub fn new(takes: Duration) -> Self {
        Self::with_tokens(takes, Duration::from_secs(3600), None)
    }

    /// Its tokens live so long, and perhaps say when they are due.
    #[must_use]
    pub fn with_tokens(takes: Duration, lifetime: Duration, refresh_in: Option<Duration>) -> Self {
        Self(Arc::new(Inner { takes, lifetime, refresh_in, fetches: Mutex::default() }))
    }

    /// The source of a cache.
    #[must_use]
    pub fn source(&self) -> impl TokenSource + use<> {
        let slow = self.clone();
        from_fn(move |_| {
            let slow = slow.clone();
            async move { slow.fetch().await }
        })
    }

    async fn fetch(&self) -> Result<AccessToken, TokenError> {
        let nth = {
            let mut fetches = self.all();
            fetches.push((Instant::now(), None));
            fetches.len() - 1
        };
        if !self.0.takes.is_zero() {
            sleep(self.0.takes).await;
        }
        self.all()[nth].1 = Some(Instant::now());
        let token = token(nth)?.with_lifetime(self.0.lifetime);
        Ok(match self.0.refresh_in {
            Some(refresh_in) => token.with_refresh_in(refresh_in),
            None => token,
        })
    }

    fn all(&self) -> MutexGuard<'_, Vec<Fetch>> {
        self.0.fetches.lock().expect("nobody panics with it")
    }

    /// A cache that has no token yet.
    #[must_use]
    pub fn cache(&self) -> TokenCache {
        TokenCache::new(self.source())
    }

    /// The same with another policy.
    #[must_use]
    pub fn cache_with(&self, policy: RefreshPolicy) -> TokenCache {
        TokenCache::with_policy(self.source(), policy)
    }

    /// A layer over a cache that has no token yet, which names one origin.
    #[must_use]
    pub fn layer(&self) -> BearerAuthLayer {
        BearerAuthLayer::from_cache(self.cache()).origin(ORIGIN).expect("that is an origin")
    }

    /// All fetches so far.
    #[must_use]
    pub fn fetches(&self) -> Vec<Fetch> {
        self.all().clone()
    }

    /// What it holds to remember them, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.all().capacity() * size_of::<Fetch>()
    }

    /// When those ended that have.
    #[must_use]
    pub fn ended(&self) -> Vec<Instant> {
        self.fetches().into_iter().filter_map(|(_, end)| end).collect()
    }
}
