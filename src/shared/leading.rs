//! The leader: it fetches for all on a task of its own, and stores the result even if no caller
//! waits for it any more.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{Either, select},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use super::{
    error::SharedError,
    member::{Member, Place, Seen},
    protocol::{Failure, Lead, Storing, Want},
    record::{Record, Stored},
    store::Swapped,
};
use crate::{
    error::{CacheError, TokenError},
    source::{TokenRequest, TokenSource},
    token::AccessToken,
};

/// The pause after the first failure to store; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause. Several fit into the grace period of a leader that may have spent the refresh
/// token.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// How often the leader tries to store a failure. If it cannot, the lease ends by itself.
const TELLINGS: u32 = 3;

type Outcome = Result<AccessToken, TokenError>;

/// The state that a leader starts from.
pub(super) struct Start {
    pub(super) lead: Lead,
    /// The record with its lease.
    pub(super) seen: Seen,
    pub(super) request: TokenRequest,
    pub(super) called: Instant,
    pub(super) want: Want,
    pub(super) place: Arc<Place>,
}

/// The outcome of a fetch without a token.
struct Failed {
    error: TokenError,
    failure: Failure,
}

impl<S: TokenSource> Member<S> {
    pub(super) async fn run(self: Arc<Self>, start: Start, tell: oneshot::Sender<Outcome>) {
        let began = Instant::now();
        let fetched_at = start.seen.reading.at(began);
        match self.attempt(&start).await {
            Ok(token) => {
                let mut token = Stored::of(&token, fetched_at, start.want.is_renewal());
                if start.place.is_keyed {
                    // A refresh token belongs to all keys, and this record to one.
                    token.refresh_token = None;
                }
                if token.refresh_token.is_some() {
                    self.rotates.store(true, Ordering::Relaxed);
                }
                self.succeed(start, token, tell).await;
            }
            Err(failed) => {
                let outcome = self.fail(&start, failed).await;
                // Nobody waits any more: the store knows.
                drop(tell.send(outcome));
            }
        }
    }

    /// Fetches within the lease, and leaves the rest of it for storing. If the fetch spends the
    /// refresh token it waits for a late answer too, as no other process ever gets it.
    async fn attempt(&self, start: &Start) -> Result<AccessToken, Failed> {
        let request = match start.lead.previous() {
            Some(Ok(previous)) => start.request.clone().with_previous(previous),
            Some(Err(_)) | None => start.request.clone(),
        };
        let lease = self.settings.lease;
        let limit =
            if start.lead.rotates { lease.saturating_mul(4) } else { lease.mul_f64(2.0 / 3.0) };
        // In a block, as a source may panic before it returns a future.
        let fetch = async { self.settings.source.fetch(request).await };
        let fetch = AssertUnwindSafe(fetch).catch_unwind();
        let fetch = pin!(timeout(limit, fetch));
        let fetched = if start.lead.rotates {
            let Either::Left((fetched, _)) = select(fetch, pin!(self.keep_lease(start))).await;
            fetched
        } else {
            fetch.await
        };
        match fetched {
            Ok(Ok(outcome)) => outcome.map_err(Failed::told),
            Ok(Err(_panic)) => Err(Failed::unknown(CacheError::SourcePanicked)),
            Err(_) => Err(Failed::unknown(CacheError::FetchTimeout(limit))),
        }
    }

    /// Checks that the store still has the lease, and writes it again if the store was emptied.
    /// Otherwise another process would send the same refresh token once the store has settled.
    async fn keep_lease(&self, start: &Start) -> Infallible {
        let began = start.seen.reading.asked;
        loop {
            sleep(self.guard_interval()).await;
            let Ok(seen) = self.load(&start.place).await else { continue };
            let left = self.settings.lease.saturating_sub(began.elapsed());
            let Some(mine) = &start.seen.record else { continue };
            let record = start.lead.reclaimed(mine, seen.record.as_ref(), left, seen.now());
            if let Some(record) = record {
                // If another process was faster, the next look sees its record.
                drop(self.swap(&start.place, &seen.version, &record).await);
            }
        }
    }

    /// Stores a token. If a new refresh token came with it, no caller gets the token before.
    async fn succeed(
        self: &Arc<Self>,
        start: Start,
        token: Stored,
        tell: oneshot::Sender<Outcome>,
    ) {
        let is_spent = start.lead.rotates || token.refresh_token.is_some();
        let mut tell = Some(tell);
        if !is_spent {
            tell_once(&mut tell, start.seen.hand_out(&token, start.called));
        }
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut seen = Some(start.seen);
        loop {
            // A leader outstays its lease only to store a refresh token.
            if !is_spent && began.elapsed() > self.settings.lease {
                return;
            }
            let looked = match seen.take() {
                Some(seen) => Ok(seen),
                None => self.load(&start.place).await,
            };
            let Ok(current) = looked else {
                rest(&mut pause).await;
                continue;
            };
            let step = start.lead.succeeded(current.record.as_ref(), &token, current.now());
            let stored = match (step, &current.record) {
                (Storing::Write(record), _) => {
                    match self.swap(&start.place, &current.version, &record).await {
                        Ok(Swapped::Done(_)) => record,
                        // The store may have written it all the same: the next look shows.
                        Ok(Swapped::Conflict) | Err(_) => {
                            rest(&mut pause).await;
                            continue;
                        }
                    }
                }
                (_, Some(record)) => record.clone(),
                (_, None) => continue,
            };
            self.hold(&start.place, &stored);
            let theirs = stored.token.filter(|it| start.want.is_met_by(it, current.now()));
            let token = theirs.as_ref().unwrap_or(&token);
            tell_once(&mut tell, current.hand_out(token, start.called));
            return;
        }
    }

    /// Stores a failure for the other processes, unless one of them has succeeded meanwhile.
    async fn fail(self: &Arc<Self>, start: &Start, failed: Failed) -> Outcome {
        let Failed { error, failure } = failed;
        for _ in 0..TELLINGS {
            let Ok(current) = self.load(&start.place).await else { break };
            let now = current.now();
            if let Some(record) = &current.record {
                if let Some(token) =
                    overtaking(start, record).filter(|it| start.want.is_met_by(it, now))
                {
                    self.hold(&start.place, record);
                    return current.hand_out(token, start.called);
                }
            }
            let Some(record) = start.lead.failed(current.record.as_ref(), failure, now) else {
                break;
            };
            if let Ok(Swapped::Done(_)) = self.swap(&start.place, &current.version, &record).await {
                break;
            }
        }
        let is_lost = start.lead.is_in_doubt() && !failure.is_transient;
        Err(if is_lost { SharedError::RefreshTokenLost(error).into_token_error() } else { error })
    }
}

/// The token that has replaced the one that the leader started from.
fn overtaking<'a>(start: &Start, record: &'a Record) -> Option<&'a Stored> {
    record.token.as_ref().filter(|_| start.lead.is_overtaken(record))
}

fn tell_once(tell: &mut Option<oneshot::Sender<Outcome>>, outcome: Outcome) {
    if let Some(tell) = tell.take() {
        // No caller waits any more: the result is in the store.
        drop(tell.send(outcome));
    }
}

async fn rest(pause: &mut Duration) {
    sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    *pause = (*pause * 2).min(MAX_PAUSE);
}

// ===== impl Failed =====

impl Failed {
    /// The source has returned an error.
    fn told(error: TokenError) -> Self {
        let failure = Failure {
            is_transient: error.is_transient(),
            is_unknown: false,
            retry_after: error.retry_after(),
        };
        Self { error, failure }
    }

    /// The source has not answered.
    fn unknown(error: CacheError) -> Self {
        Self { error: error.into(), failure: Failure::UNKNOWN }
    }
}
