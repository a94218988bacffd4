//! One exchange of a refresh token at a time, which a dropped fetch does not interrupt.
//!
//! An exchange that is dropped half-way may have spent the refresh token, whose successor is then
//! lost. So it runs on its own task, and other fetches wait for it.
//!
//! All keys share the refresh token, but no access token. A fetch for the same key takes the result
//! of the run. A fetch for another key waits until the run has ended, which returns the refresh
//! token to send next, and then starts its own.
//!
//! ```text
//!          a fetch            the task                       a fetch for the same key
//!  nothing ───────▶  running  ────────▶ ended, not taken ────────────────────────────▶ nothing
//!                    │     ▲                 │
//!                    │     └─────────────────┘ a fetch for another key, or one that wants no
//!                    │                         such outcome: running for that one
//!                    │ the runtime drops the task, or it exceeds its time limit
//!                    ▼
//!                given up: the rest of it is aborted, and the next fetch starts a new one
//! ```

use std::{
    panic::AssertUnwindSafe,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{AbortHandle, Abortable},
};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    error::{CacheError, TokenError},
    oauth2::overlay::Overlay,
    observe,
    token::AccessToken,
};

type Outcome = Result<AccessToken, TokenError>;

/// How long to keep the result of a run for the next fetch, if no fetch waits for it.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// The current run, or one that has ended and whose result was not taken.
#[derive(Default)]
pub(crate) struct Runs {
    run: Mutex<Option<Run>>,
}

#[derive(Clone)]
struct Run {
    /// What the run asks for: its token is for requests that ask for the same.
    overlay: Overlay,
    began: Instant,
    outcome: watch::Receiver<Option<Outcome>>,
    abort: AbortHandle,
}

// ===== impl Runs =====

impl Runs {
    /// Waits for the current run, or starts one. `longest`: how long it can take.
    pub(crate) async fn join<F, Fut>(
        &self,
        runtime: &Handle,
        overlay: &Overlay,
        rejected: Option<&AccessToken>,
        longest: Duration,
        start: F,
    ) -> Outcome
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let called = Instant::now();
        loop {
            let (run, is_ours) = match self.usable_run(overlay, rejected, longest) {
                Some(run) => (run, false),
                None => match self.begin(runtime, overlay, &start) {
                    Some(run) => (run, true),
                    // Another fetch was faster.
                    None => continue,
                },
            };
            let left = longest.saturating_sub(run.began.elapsed());
            let mut outcome = run.outcome.clone();
            let ended = timeout(left, outcome.wait_for(Option::is_some)).await;
            let ended = ended.map(|outcome| outcome.ok().and_then(|outcome| outcome.clone()));
            let failure = match ended {
                // For another key: only its end matters here.
                Ok(Some(_)) if run.overlay != *overlay => continue,
                Ok(Some(outcome)) => {
                    self.forget(&run);
                    return outcome
                        .map(|token| aged(token, called.saturating_duration_since(run.began)));
                }
                Ok(None) => CacheError::FlightLost,
                Err(_) => CacheError::FetchTimeout(longest),
            };
            run.abort.abort();
            self.forget(&run);
            if is_ours {
                return Err(failure.into());
            }
        }
    }

    /// The run that a fetch can wait for or take, if there is one.
    fn usable_run(
        &self,
        overlay: &Overlay,
        rejected: Option<&AccessToken>,
        longest: Duration,
    ) -> Option<Run> {
        let run = self.run().clone()?;
        let is_wanted = match &*run.outcome.borrow() {
            None => run.outcome.has_changed().is_ok() && run.began.elapsed() < longest,
            Some(Err(_)) => false,
            Some(Ok(_)) if run.overlay != *overlay => false,
            Some(Ok(token)) => {
                let is_rejected = rejected.is_some_and(|rejected| rejected.is_same(token));
                !is_rejected && run.began.elapsed() <= KEPT_FOR
            }
        };
        if is_wanted {
            return Some(run);
        }
        run.abort.abort();
        self.forget(&run);
        None
    }

    /// Starts a run, unless there is one.
    fn begin<F, Fut>(&self, runtime: &Handle, overlay: &Overlay, start: F) -> Option<Run>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let (tell, outcome) = watch::channel(None);
        let (abort, aborted) = AbortHandle::new_pair();
        let run = Run { overlay: overlay.clone(), began: Instant::now(), outcome, abort };
        {
            let mut current = self.run();
            if current.is_some() {
                return None;
            }
            *current = Some(run.clone());
        }
        let work = AssertUnwindSafe(start()).catch_unwind();
        let work = async move {
            if let Ok(ended) = Abortable::new(work, aborted).await {
                let outcome = ended.unwrap_or_else(|_| Err(CacheError::SourcePanicked.into()));
                tell.send_replace(Some(outcome));
            }
        };
        runtime.spawn(observe::in_current_span(work));
        Some(run)
    }

    /// Makes room for the next run.
    fn forget(&self, run: &Run) {
        let mut current = self.run();
        let is_current =
            current.as_ref().is_some_and(|current| current.outcome.same_channel(&run.outcome));
        let forgotten = if is_current { current.take() } else { None };
        drop(current);
        drop(forgotten);
    }

    fn run(&self) -> MutexGuard<'_, Option<Run>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shortens the lifetime of a token that is older than the call of the fetch that takes it, because
/// the cache counts the lifetime from that call. It rounds to whole seconds, because the cache
/// treats a lifetime in whole seconds as shorter.
fn aged(token: AccessToken, age: Duration) -> AccessToken {
    let age = Duration::from_secs(age.as_secs().saturating_add((age.subsec_nanos() > 0).into()));
    if age.is_zero() {
        return token;
    }
    let token = match token.refresh_in() {
        Some(refresh_in) => token.with_refresh_in(refresh_in.saturating_sub(age)),
        None => token,
    };
    match token.lifetime() {
        Some(lifetime) => token.with_lifetime(lifetime.saturating_sub(age)),
        None => token,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_was_fetched_earlier_lives_whole_seconds_less() {
        let token = AccessToken::new("a").unwrap();
        let left = |age| {
            let token = token.clone().with_lifetime(Duration::from_secs(10));
            aged(token, Duration::from_millis(age)).lifetime().map(|left| left.as_secs())
        };
        let all = [0, 1, 999, 1000, 1001, 9999, 60_000].map(left);
        assert_eq!(all, [10, 9, 9, 9, 8, 0, 0].map(Some));
        assert_eq!(aged(token, Duration::from_secs(1)).lifetime(), None);
    }

    #[test]
    fn a_token_that_was_fetched_earlier_is_due_sooner() {
        let token = AccessToken::new("a").unwrap().with_refresh_in(Duration::from_secs(10));
        let due = |age| aged(token.clone(), Duration::from_millis(age)).refresh_in().unwrap();
        assert_eq!([0, 1, 60_000].map(due).map(|due| due.as_secs()), [10, 9, 0]);
    }
}
