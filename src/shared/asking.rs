//! A caller that wants a token: it looks into the store, and follows the protocol.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use super::{
    error::SharedError,
    leading::Start,
    member::{Member, Place, Seen},
    protocol::{self, Step, Want},
    record::Holder,
    store::{StoreError, Swapped, Version},
};
use crate::{
    error::{CacheError, TokenError},
    observe,
    source::{TokenRequest, TokenSource},
    token::AccessToken,
};

/// The jitter of processes that fetch for themselves.
const SPREAD: Duration = Duration::from_secs(1);
/// The shortest pause between two looks of a waiting caller, whatever the store reports.
const MIN_POLL: Duration = Duration::from_millis(10);

/// How many conflicts in a row a caller meets before it treats the store as unavailable. In a store
/// that works, each conflict is a write of another process, and few of those precede a lease.
const MAX_CONFLICTS: u32 = 100;

/// The pause between two looks of a caller that does not know whether it has a lease.
const RELEASE_PAUSE: Duration = Duration::from_millis(500);

/// How much longer than three leases a caller waits: for a store to settle, and grace periods.
const PATIENCE: Duration = Duration::from_secs(30);

type Tell = oneshot::Sender<Result<AccessToken, TokenError>>;

/// What a caller gets.
enum Answer {
    Told(Result<AccessToken, TokenError>),
    /// This caller has the lease, and must lead.
    Lead(Box<Start>),
    /// No caller: it has gone.
    Nobody,
}

/// The lease never ends, because the store's clock stands still.
#[derive(Debug, thiserror::Error)]
#[error("another process fetches, and its lease does not end")]
struct EndlessLease;

/// The store refuses each write, as if another process were always faster.
#[derive(Debug, thiserror::Error)]
#[error("every write meets a conflict")]
struct EndlessConflicts;

impl<S: TokenSource> Member<S> {
    /// Asks on a task of its own: a process with a lease must lead or give it back, even if the
    /// caller has gone.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        request: TokenRequest,
    ) -> Result<AccessToken, TokenError> {
        let called = Instant::now();
        let runtime = Handle::try_current().map_err(|_| CacheError::NoRuntime)?;
        let (tell, told) = oneshot::channel();
        let work = Arc::clone(self).serve(request, called, tell);
        runtime.spawn(observe::in_current_span(work));
        told.await.unwrap_or_else(|_| Err(CacheError::FlightLost.into()))
    }

    async fn serve(self: Arc<Self>, request: TokenRequest, called: Instant, tell: Tell) {
        let mut tell = tell;
        // The seal's key may come from a function that never answers.
        let placed = match select(pin!(self.place(&request)), pin!(tell.closed())).await {
            Either::Left((placed, _)) => placed,
            Either::Right(_) => return,
        };
        let outcome = match placed {
            Ok(place) => self.answer(Arc::new(place), request, called, &mut tell).await,
            Err(error) => Answer::Told(Err(error)),
        };
        match outcome {
            // A caller that has gone is not a failure.
            Answer::Told(outcome) => drop(tell.send(outcome)),
            Answer::Lead(start) => self.run(*start, tell).await,
            Answer::Nobody => {}
        }
    }

    /// Asks until there is an answer, or the caller has gone.
    async fn answer(
        self: &Arc<Self>,
        place: Arc<Place>,
        request: TokenRequest,
        called: Instant,
        tell: &mut Tell,
    ) -> Answer {
        let want = Want::of(&request);
        let Some(me) = holder() else {
            let error = StoreError::new("the operating system has no random bytes");
            return self.without_store(request, error, tell).await;
        };
        let mut conflicts = 0_u32;
        loop {
            let patience = self.settings.lease.saturating_mul(3).saturating_add(PATIENCE);
            if called.elapsed() > patience {
                return self.without_store(request, StoreError::new(EndlessLease), tell).await;
            }
            let (seen, step) = match self.ask(&place, &want, me).await {
                Ok(Some(answer)) => answer,
                Ok(None) if conflicts == MAX_CONFLICTS => {
                    return self
                        .without_store(request, StoreError::new(EndlessConflicts), tell)
                        .await;
                }
                // Another process was faster.
                Ok(None) => {
                    conflicts = conflicts.saturating_add(1);
                    sleep(MIN_POLL.mul_f64(0.5 + fastrand::f64())).await;
                    continue;
                }
                Err(error) => return self.without_store(request, error, tell).await,
            };
            let failure = match step {
                Step::Have(token) => {
                    if let Some(record) = &seen.record {
                        self.hold(&place, record);
                    }
                    return Answer::Told(seen.hand_out(&token, called));
                }
                Step::Lead(lead) => {
                    let start = Start { lead, seen, request, called, want, place };
                    return Answer::Lead(Box::new(start));
                }
                Step::Wait(left) => {
                    match select(pin!(self.wait(&place, &seen, left)), pin!(tell.closed())).await {
                        Either::Left(_) => continue,
                        Either::Right(_) => return Answer::Nobody,
                    }
                }
                Step::Paused(left) => SharedError::Paused(left),
                Step::TooSoon(left) => SharedError::TooSoon(left),
                // The store has written it.
                Step::Write(_) => continue,
            };
            return Answer::Told(Err(failure.into_token_error()));
        }
    }

    /// Looks once, writes what the protocol says, and returns the next step. `None`: another
    /// process has written meanwhile.
    async fn ask(
        self: &Arc<Self>,
        place: &Arc<Place>,
        want: &Want,
        me: Holder,
    ) -> Result<Option<(Seen, Step)>, StoreError> {
        let mut seen = self.load(place).await?;
        let rules = self.rules();
        loop {
            let held = self.held(place);
            let now = seen.now();
            let record = seen.record.as_ref();
            let step = protocol::ask(want, me, &rules, record, held.as_deref(), now);
            let Step::Write(record) = step else { return Ok(Some((seen, step))) };
            match self.swap(place, &seen.version, &record).await {
                Ok(Swapped::Done(version)) => {
                    seen.record = Some(record);
                    seen.version = version;
                }
                Ok(Swapped::Conflict) => return Ok(None),
                Err(error) => {
                    let release = Arc::clone(self).release(Arc::clone(place), me, seen.version);
                    tokio::spawn(observe::in_current_span(release));
                    return Err(error);
                }
            }
        }
    }

    /// Gives back a lease that the store may have written after all, or may still write.
    async fn release(self: Arc<Self>, place: Arc<Place>, me: Holder, seen: Version) {
        let began = Instant::now();
        while began.elapsed() < self.settings.lease.saturating_mul(4) {
            sleep(RELEASE_PAUSE.mul_f64(0.5 + fastrand::f64())).await;
            let Ok(current) = self.load(&place).await else { continue };
            let is_unchanged = current.version == seen;
            let record = protocol::released(current.record.as_ref(), me, is_unchanged);
            let Some(record) = record else { return };
            if let Ok(Swapped::Done(_)) = self.swap(&place, &current.version, &record).await {
                return;
            }
        }
    }

    /// Waits until the record may have changed, or the lease has ended.
    async fn wait(&self, place: &Place, seen: &Seen, left: Duration) {
        let changed = async {
            sleep(MIN_POLL).await;
            self.settings.store.changed(&place.name, &seen.version).await;
        };
        // The end of the lease is a reason to look too.
        let _ = timeout(left.saturating_add(MIN_POLL), changed).await;
    }

    /// Fetches without the store, with jitter, if the source is repeatable. A process that cannot
    /// know whether another has sent the refresh token does not send it.
    async fn without_store(
        &self,
        request: TokenRequest,
        error: StoreError,
        tell: &mut Tell,
    ) -> Answer {
        if self.rotates() {
            return Answer::Told(Err(SharedError::StoreAway(error).into_token_error()));
        }
        let fetch = async {
            sleep(SPREAD.mul_f64(fastrand::f64())).await;
            self.settings.source.fetch(request).await
        };
        match select(pin!(fetch), pin!(tell.closed())).await {
            Either::Left((outcome, _)) => Answer::Told(outcome),
            Either::Right(_) => Answer::Nobody,
        }
    }

    /// The record for a request.
    async fn place(&self, request: &TokenRequest) -> Result<Place, TokenError> {
        let keys = self
            .settings
            .seal
            .keys()
            .await
            .map_err(|error| SharedError::from(error).into_token_error())?;
        #[cfg(feature = "keyed")]
        if let Some(asked) = request.key() {
            use super::{key, names};

            // A stored token is not for a key that cannot be used, nor for a subject that is gone.
            asked.usable(std::time::SystemTime::now())?;
            if self.rotates() {
                return Err(SharedError::KeyedRotation.into_token_error());
            }
            let digest = keys.digest(key::parts(asked));
            let name = names::of_key(&self.settings.name, &digest);
            return Ok(Place { name, keys, is_keyed: true });
        }
        #[cfg(not(feature = "keyed"))]
        let _ = request;
        Ok(Place { name: self.settings.name.to_string(), keys, is_keyed: false })
    }
}

/// An identifier that is unique among all processes.
fn holder() -> Option<Holder> {
    let mut holder = [0; 16];
    getrandom::fill(&mut holder).ok().map(|()| holder)
}
