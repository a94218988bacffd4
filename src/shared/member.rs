//! One process of a fleet: its source, the store, and the newest record that it has seen.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::AbortHandle,
    time::{Instant, timeout},
};

use super::{
    protocol::Rules,
    record::{Record, Stored},
    seal::{Keys, Seal, SealError, Unreadable},
    store::{AnyStore, StoreError, Swapped, Version},
    time::{Reading, StoreTime},
};
use crate::{
    error::TokenError,
    observe::{self, Label},
    token::AccessToken,
};

/// How often a process checks that the store still has its record, if a fetch spends the refresh
/// token.
const GUARD: Duration = Duration::from_secs(3);
/// The same if a lost record costs a fetch and nothing else.
const LAZY_GUARD: Duration = Duration::from_secs(30);

/// One process of a fleet.
pub(super) struct Member<S> {
    pub(super) settings: Settings<S>,
    pub(super) label: Label,
    /// Whether a fetch spends the refresh token, as declared by the source or seen in an answer.
    pub(super) rotates: AtomicBool,
    /// The newest record that this process has seen.
    held: Mutex<Option<Arc<Record>>>,
    pub(super) guard: Mutex<Option<AbortHandle>>,
    is_away: AtomicBool,
    ignores: AtomicBool,
}

/// The settings of a process.
pub(super) struct Settings<S> {
    pub(super) source: Arc<S>,
    pub(super) store: Arc<dyn AnyStore>,
    pub(super) seal: Seal,
    /// The name of the record for requests without a key.
    pub(super) name: Arc<str>,
    pub(super) lease: Duration,
    pub(super) store_timeout: Duration,
    pub(super) rotates: bool,
}

/// The name of a record, and the keys that open it.
pub(super) struct Place {
    pub(super) name: String,
    pub(super) keys: Keys,
    pub(super) is_keyed: bool,
}

/// An answer of the store.
pub(super) struct Seen {
    pub(super) record: Option<Record>,
    pub(super) version: Version,
    pub(super) reading: Reading,
}

/// The store did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
struct NoAnswer(Duration);

/// A key that may open the record is missing.
#[derive(Debug, thiserror::Error)]
#[error("its record may be sealed with an older key, and {0}")]
struct Unopened(SealError);

/// Sealing a record failed.
#[derive(Debug, thiserror::Error)]
#[error("the record is too large, or the operating system has no random bytes")]
struct Unsealable;

// ===== impl Settings =====

// By hand: a derived `Clone` would require `S: Clone`.
impl<S> Clone for Settings<S> {
    fn clone(&self) -> Self {
        Self {
            source: Arc::clone(&self.source),
            store: Arc::clone(&self.store),
            seal: self.seal.clone(),
            name: Arc::clone(&self.name),
            ..*self
        }
    }
}

// ===== impl Seen =====

impl Seen {
    /// The current time by the store's clock.
    pub(super) fn now(&self) -> StoreTime {
        self.reading.at(Instant::now())
    }

    /// The token with its remaining lifetime, counted from that call.
    pub(super) fn hand_out(
        &self,
        token: &Stored,
        called: Instant,
    ) -> Result<AccessToken, TokenError> {
        let waited = self.reading.asked.saturating_duration_since(called);
        token.for_caller(self.reading.time.minus(waited)).map_err(TokenError::permanent)
    }
}

// ===== impl Member =====

impl<S> Member<S> {
    pub(super) fn new(settings: Settings<S>) -> Self {
        Self {
            label: Label::new(Some(Arc::clone(&settings.name))),
            rotates: AtomicBool::new(settings.rotates),
            settings,
            held: Mutex::default(),
            guard: Mutex::default(),
            is_away: AtomicBool::new(false),
            ignores: AtomicBool::new(false),
        }
    }

    pub(super) fn rotates(&self) -> bool {
        self.rotates.load(Ordering::Relaxed)
    }

    pub(super) fn rules(&self) -> Rules {
        // Time for every other process to look twice, and for the store to answer each look.
        let settle = (GUARD * 2).saturating_add(self.settings.store_timeout.saturating_mul(4));
        Rules {
            lease: self.settings.lease,
            rotates: self.rotates(),
            settle: (!self.settings.store.is_durable()).then_some(settle),
        }
    }

    /// The interval at which the guard looks.
    pub(super) fn guard_interval(&self) -> Duration {
        let interval =
            if self.rotates() && !self.settings.store.is_durable() { GUARD } else { LAZY_GUARD };
        interval.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    // ===== The store =====

    /// Loads the record. A record that this fleet cannot read counts as missing, unless it may have
    /// the current refresh token, and this process only lacks the key for now.
    pub(super) async fn load(&self, place: &Place) -> Result<Seen, StoreError> {
        let asked = Instant::now();
        let loaded = self.in_time(self.settings.store.load(&place.name)).await?;
        let time = StoreTime::of(loaded.now);
        let record = match loaded.sealed.map(|sealed| place.keys.open(&place.name, &sealed)) {
            Some(Ok(record)) => {
                self.ignores.store(false, Ordering::Relaxed);
                if record.token.as_ref().is_some_and(|token| token.refresh_token.is_some()) {
                    self.rotates.store(true, Ordering::Relaxed);
                }
                Some(record)
            }
            Some(Err(reason)) => {
                let unread = place.keys.unread().filter(|_| reason == Unreadable::Key);
                if let Some(error) = unread.filter(|_| self.rotates()) {
                    return Err(StoreError::new(Unopened(error.clone())));
                }
                if !self.ignores.swap(true, Ordering::Relaxed) {
                    observe::record_ignored(&self.label, &reason);
                }
                None
            }
            None => None,
        };
        let reading = Reading { time, asked, answered: Instant::now() };
        Ok(Seen { record, version: loaded.version, reading })
    }

    pub(super) async fn swap(
        &self,
        place: &Place,
        seen: &Version,
        record: &Record,
    ) -> Result<Swapped, StoreError> {
        let sealed =
            place.keys.seal(&place.name, record).ok_or_else(|| StoreError::new(Unsealable))?;
        self.in_time(self.settings.store.swap(&place.name, seen, &sealed)).await
    }

    /// Waits for an answer until the store timeout, and logs an unavailable store once.
    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let late = |_| Err(StoreError::new(NoAnswer(self.settings.store_timeout)));
        let answer = timeout(self.settings.store_timeout, answer).await.unwrap_or_else(late);
        match &answer {
            Ok(_) => {
                if self.is_away.swap(false, Ordering::Relaxed) {
                    observe::store_back(&self.label);
                }
            }
            Err(error) => {
                if !self.is_away.swap(true, Ordering::Relaxed) {
                    observe::store_away(&self.label, error);
                }
            }
        }
        answer
    }

    // ===== What is held =====

    /// The newest record that this process has seen under the name without a key.
    pub(super) fn held(&self, place: &Place) -> Option<Arc<Record>> {
        if place.is_keyed { None } else { locked(&self.held).clone() }
    }

    /// Keeps a record unless a newer one is held. Returns whether it was kept.
    pub(super) fn keep(&self, place: &Place, record: &Record) -> bool {
        if place.is_keyed || record.token.is_none() {
            return false;
        }
        let mut held = locked(&self.held);
        let is_newer = held.as_ref().is_none_or(|held| held.generation < record.generation);
        if is_newer {
            *held = Some(Arc::new(record.clone()));
        }
        is_newer
    }
}

/// No call under these locks panics half-way.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S> fmt::Debug for Member<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

impl<S> Drop for Member<S> {
    fn drop(&mut self) {
        if let Some(guard) = locked(&self.guard).take() {
            guard.abort();
        }
    }
}
