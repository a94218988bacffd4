//! A caller that wants a token: looks into the store, and does what the protocol says.

use std::{sync::Arc, time::Duration};

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
    store::{StoreError, Swapped},
};
use crate::{
    error::{CacheError, TokenError},
    observe,
    source::{TokenRequest, TokenSource},
    token::AccessToken,
};

/// By how much processes that fetch for themselves are spread.
const SPREAD: Duration = Duration::from_secs(1);
/// The shortest pause between two looks of one who waits, whatever the store says.
const MIN_POLL: Duration = Duration::from_millis(10);

/// The lease never ends, by a clock that stands still.
#[derive(Debug, thiserror::Error)]
#[error("another process fetches, and its lease does not end")]
struct EndlessLease;

impl<S: TokenSource> Member<S> {
    pub(super) async fn fetch(
        self: &Arc<Self>,
        request: TokenRequest,
    ) -> Result<AccessToken, TokenError> {
        let called = Instant::now();
        let runtime = Handle::try_current().map_err(|_| CacheError::NoRuntime)?;
        let place = Arc::new(self.place(&request).await?);
        let want = Arc::new(Want::of(&request));
        let Some(me) = holder() else {
            return self.without_store(request, StoreError::new("no random bytes")).await;
        };
        loop {
            if called.elapsed() > 3 * self.settings.lease {
                return self.without_store(request, StoreError::new(EndlessLease)).await;
            }
            let (seen, step) = match self.ask(&place, &want, me).await {
                Ok(Some(answer)) => answer,
                // Somebody was faster.
                Ok(None) => continue,
                Err(error) => return self.without_store(request, error).await,
            };
            let failure = match step {
                Step::Have(token) => {
                    if let Some(record) = &seen.record {
                        self.hold(&place, record);
                    }
                    return seen.hand_out(&token, called);
                }
                Step::Lead(lead) => {
                    let start =
                        Start { lead, seen, request, called, want, place: Arc::clone(&place) };
                    return self.lead(&runtime, start).await;
                }
                Step::Wait(left) => {
                    self.wait(&place, &seen, left).await;
                    continue;
                }
                Step::Paused(left) => SharedError::Paused(left),
                Step::TooSoon(left) => SharedError::TooSoon(left),
                // It was written.
                Step::Write(_) => continue,
            };
            return Err(failure.into_token_error());
        }
    }

    /// Looks once and writes what is to be written; what comes after that. `None`: somebody else
    /// has written.
    async fn ask(
        &self,
        place: &Place,
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
            match self.swap(place, &seen.version, &record).await? {
                Swapped::Done(version) => {
                    seen.record = Some(record);
                    seen.version = version;
                }
                Swapped::Conflict => return Ok(None),
            }
        }
    }

    /// Waits until the record may be another one, or the lease has ended.
    async fn wait(&self, place: &Place, seen: &Seen, left: Duration) {
        let changed = async {
            sleep(MIN_POLL).await;
            self.settings.store.changed(&place.name, &seen.version).await;
        };
        // At the latest when the lease is over: that is an answer too.
        let _ = timeout(left + MIN_POLL, changed).await;
    }

    /// What repeats fetches for itself, and not all processes at once. What is spent by a fetch
    /// is not sent by one who cannot know whether another has sent it.
    async fn without_store(
        &self,
        request: TokenRequest,
        error: StoreError,
    ) -> Result<AccessToken, TokenError> {
        if self.rotates() {
            return Err(SharedError::StoreAway(error).into_token_error());
        }
        sleep(SPREAD.mul_f64(fastrand::f64())).await;
        self.settings.source.fetch(request).await
    }

    /// Which record the request is about.
    async fn place(&self, request: &TokenRequest) -> Result<Place, TokenError> {
        let keys = self
            .settings
            .seal
            .keys()
            .await
            .map_err(|error| SharedError::from(error).into_token_error())?;
        #[cfg(feature = "keyed")]
        if let Some(key) = request.key() {
            if self.rotates() {
                return Err(SharedError::KeyedRotation.into_token_error());
            }
            let name = format!("{}/{}", self.settings.name, keys.digest(super::key::parts(key)));
            return Ok(Place { name, keys, is_keyed: true });
        }
        #[cfg(not(feature = "keyed"))]
        let _ = request;
        Ok(Place { name: self.settings.name.to_string(), keys, is_keyed: false })
    }

    /// Starts a leader on a task of its own, and waits for it. It goes on if nobody does.
    async fn lead(
        self: &Arc<Self>,
        runtime: &Handle,
        start: Start,
    ) -> Result<AccessToken, TokenError> {
        let (tell, told) = oneshot::channel();
        let member = Arc::clone(self);
        runtime.spawn(observe::in_current_span(async move { member.run(start, tell).await }));
        told.await.unwrap_or_else(|_| Err(CacheError::FlightLost.into()))
    }
}

/// An ask that no other process can be taken for.
fn holder() -> Option<Holder> {
    let mut holder = [0; 16];
    getrandom::fill(&mut holder).ok().map(|()| holder)
}
