//! The coarse clock that requests read without a lock or a system call, and the runtime that has
//! the timers.
//!
//! A precise reading costs as much as all other work of this crate for a request. So the cache
//! decides with tokio's clock how long a token may be used, and leaves a [`Moment`] that is cheap
//! to compare with. Each use reads the clock itself. A flag set by a timer would be cheaper still,
//! but a stalled runtime would leave such a flag unchanged past the expiry.

pub(crate) mod later;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, Sleep},
};

use self::pausable::CAN_PAUSE;
use crate::error::CacheError;

/// A time on the coarse clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(coarsetime::Instant);

/// How far the coarse clock may lag behind: a tick of the slowest kernels.
const RESOLUTION: Duration = Duration::from_millis(20);

impl Moment {
    pub(crate) const PAST: Self = Self(coarsetime::Instant::from_ticks(0));
    const NEVER: Self = Self(coarsetime::Instant::from_ticks(u64::MAX));

    #[inline]
    pub(crate) fn now() -> Self {
        if CAN_PAUSE { precise(Instant::now()) } else { coarse() }
    }

    /// A moment not after `instant`, seen from `now`; `None`: never.
    pub(crate) fn of(instant: Option<Instant>, now: Instant) -> Self {
        let Some(instant) = instant else { return Self::NEVER };
        if CAN_PAUSE {
            return precise(instant);
        }
        let left = instant.saturating_duration_since(now).saturating_sub(RESOLUTION);
        Self(coarse().0.saturating_add(left.into()))
    }

    /// The moment that much later.
    #[cfg(feature = "keyed")]
    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time.into()))
    }

    /// The moment as a number that fits into an atomic.
    #[cfg(feature = "keyed")]
    pub(crate) fn ticks(self) -> u64 {
        self.0.as_ticks()
    }

    #[cfg(feature = "keyed")]
    pub(crate) fn of_ticks(ticks: u64) -> Self {
        Self(coarsetime::Instant::from_ticks(ticks))
    }

    /// The time from now until the moment; `None` if it never comes.
    pub(crate) fn left(self) -> Option<Duration> {
        (self != Self::NEVER).then(|| self.0.duration_since(Self::now().0).into())
    }
}

/// If the operating system has no coarse monotonic clock, tokio's takes its place.
#[inline]
fn coarse() -> Moment {
    let has_one = cfg!(any(
        target_os = "android",
        target_os = "freebsd",
        target_os = "linux",
        target_os = "macos",
        target_os = "windows"
    ));
    // The other `now` writes to memory that all threads share.
    if has_one {
        Moment(coarsetime::Instant::now_without_cache_update())
    } else {
        precise(Instant::now())
    }
}

/// A time by tokio's clock, which may be paused at any time and so has no epoch of its own.
fn precise(instant: Instant) -> Moment {
    static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    let since = instant.into_std().saturating_duration_since(*START);
    Moment(coarsetime::Instant::from_ticks(coarsetime::Duration::from(since).as_ticks()))
}

// ===== Timers =====

/// The current runtime, if it has a timer.
pub(crate) fn runtime() -> Result<Handle, CacheError> {
    let runtime = Handle::try_current().map_err(|_| CacheError::NoRuntime)?;
    // Tokio has no query for this: making a timer without a time driver panics.
    match catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))) {
        Ok(()) => Ok(runtime),
        Err(_panic) => Err(CacheError::NoRuntime),
    }
}

/// Polls a timer. If its runtime is gone, a timer on the current one takes its place.
pub(crate) fn poll_timer(
    mut timer: Pin<&mut Sleep>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), CacheError>> {
    // Tokio has no query for this: polling a timer whose runtime has shut down panics.
    let mut poll = |timer: Pin<&mut Sleep>| catch_unwind(AssertUnwindSafe(|| timer.poll(cx)));
    let polled = poll(timer.as_mut()).or_else(|_panic| {
        runtime()?;
        let at = timer.deadline();
        timer.set(tokio::time::sleep_until(at));
        poll(timer).map_err(|_panic| CacheError::NoRuntime)
    });
    match polled {
        Ok(polled) => polled.map(Ok),
        Err(error) => Poll::Ready(Err(error)),
    }
}

/// A timer, if there is a runtime with a time driver.
pub(crate) fn sleep(duration: Duration) -> Option<Sleep> {
    runtime().ok().map(|_| tokio::time::sleep(duration))
}

// ===== Paused time =====

/// Finds out whether tokio was compiled with `test-util`, so that time may be paused. If so,
/// requests read tokio's own clock.
///
/// Only with that feature the builder has an inherent method `start_paused`, which takes
/// precedence over a trait's.
mod pausable {
    #![allow(dead_code, reason = "one half is used with `test-util`, the other without")]

    use tokio::runtime::Builder;

    pub(super) const CAN_PAUSE: bool =
        answer(&|| Builder::new_current_thread().start_paused(true).is_pausable());

    const fn answer<A: Answer>(_: &impl FnOnce() -> A) -> bool {
        A::CAN_PAUSE
    }

    trait Answer {
        const CAN_PAUSE: bool;
    }

    struct Yes;

    impl Answer for Yes {
        const CAN_PAUSE: bool = true;
    }

    struct No;

    impl Answer for No {
        const CAN_PAUSE: bool = false;
    }

    trait Pausable {
        fn is_pausable(&self) -> Yes {
            Yes
        }
    }

    impl Pausable for Builder {}

    trait Unpausable {
        fn start_paused(&mut self, _: bool) -> NoBuilder {
            NoBuilder
        }
    }

    impl Unpausable for Builder {}

    struct NoBuilder;

    #[expect(clippy::unused_self, reason = "it is called like the other one")]
    impl NoBuilder {
        fn is_pausable(&self) -> No {
            No
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn these_tests_may_pause_time_and_the_crate_knows() {
        const { assert!(CAN_PAUSE) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_follows_the_paused_clock() {
        let now = Instant::now();
        let later = Moment::of(Some(now + Duration::from_secs(5)), now);
        assert!(Moment::now() < later);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(Moment::now(), later);
        assert!(Moment::now() < Moment::of(None, now), "never comes last");
    }

    #[test]
    fn the_coarse_clock_runs_and_is_never_ahead() {
        let (start, first) = (std::time::Instant::now(), coarse());
        while start.elapsed() < 4 * RESOLUTION {}
        let passed: Duration = coarse().0.duration_since(first.0).into();
        assert!(passed <= start.elapsed() + RESOLUTION, "{passed:?}");
        assert!(passed + RESOLUTION >= 4 * RESOLUTION, "{passed:?}");
    }
}
