//! The clock that a request looks at, coarse and cheap, with no lock and no system call; and the
//! runtime that has the timers.
//!
//! A precise reading costs a request as much as all the work of this crate, so whoever decides
//! how long a token may be used does so on tokio's clock, and leaves a [`Moment`] that is cheap
//! to compare with. Each use looks at the clock itself. A flag that a timer sets would be
//! cheaper still, but a runtime that stalls keeps such a flag set past the expiry.

use std::time::Duration;

use tokio::{
    runtime::Handle,
    time::{Instant, Sleep},
};

use self::pausable::CAN_PAUSE;
use crate::error::CacheError;

/// A time on the coarse clock, in nanoseconds from an arbitrary start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) const PAST: Self = Self(0);
    const NEVER: Self = Self(u64::MAX);

    pub(crate) fn now() -> Self {
        if CAN_PAUSE { Self(precise(Instant::now())) } else { Self(coarse::now()) }
    }

    /// The moment that is not after `instant`, which is `instant - now` away; `None`: never.
    pub(crate) fn of(instant: Option<Instant>, now: Instant) -> Self {
        let Some(instant) = instant else { return Self::NEVER };
        if CAN_PAUSE {
            return Self(precise(instant));
        }
        // The coarse clock is behind by up to its resolution, so that much is taken off.
        let left = instant.saturating_duration_since(now).saturating_sub(coarse::RESOLUTION);
        Self(coarse::now().saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long it is from now until then; `None` if it never comes.
    #[cfg(feature = "metrics")]
    pub(crate) fn left(self) -> Option<Duration> {
        let left = self.0.saturating_sub(Self::now().0);
        (self != Self::NEVER).then(|| Duration::from_nanos(left))
    }
}

// ===== Timers =====

/// The runtime that we are on, if it has a timer.
pub(crate) fn runtime() -> Result<Handle, CacheError> {
    let runtime = Handle::try_current().map_err(|_| CacheError::NoRuntime)?;
    // Tokio has no question for this: to make a timer where there is none panics.
    match std::panic::catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))) {
        Ok(()) => Ok(runtime),
        Err(_panic) => Err(CacheError::NoRuntime),
    }
}

/// A timer, if there is a runtime that has one.
pub(crate) fn sleep(duration: Duration) -> Option<Sleep> {
    runtime().ok().map(|_| tokio::time::sleep(duration))
}

// ===== Paused time =====

/// Finds out whether tokio was compiled with `test-util`, so that time may be paused: then
/// requests look at tokio's own clock.
///
/// Only with that feature the builder has a method `start_paused` of its own, which wins over
/// that of a trait.
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

    impl NoBuilder {
        fn is_pausable(&self) -> No {
            No
        }
    }
}

/// Nanoseconds of tokio's clock. It may have been paused anywhere, so it has no start of its own.
fn precise(instant: Instant) -> u64 {
    use std::sync::LazyLock;

    static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    let since = instant.into_std().saturating_duration_since(*START);
    // Zero is before the start: a clock that was paused then.
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

// ===== The coarse clock =====

#[cfg(any(target_os = "linux", target_os = "android"))]
mod coarse {
    use std::time::Duration;

    use rustix::time::{ClockId, clock_gettime};

    /// A tick of the slowest kernel (100 Hz).
    pub(super) const RESOLUTION: Duration = Duration::from_millis(10);

    pub(super) fn now() -> u64 {
        let now = clock_gettime(ClockId::MonotonicCoarse);
        // Neither is negative, and the sum passes `u64` after five centuries.
        now.tv_sec
            .unsigned_abs()
            .wrapping_mul(1_000_000_000)
            .wrapping_add(now.tv_nsec.unsigned_abs())
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod coarse {
    use std::time::Duration;

    use tokio::time::Instant;

    pub(super) const RESOLUTION: Duration = Duration::ZERO;

    pub(super) fn now() -> u64 {
        super::precise(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn these_tests_may_pause_time_and_the_crate_knows() {
        assert!(CAN_PAUSE);
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
    fn the_coarse_clock_runs_and_is_never_late() {
        let start = std::time::Instant::now();
        let (first, end) = (coarse::now(), start + 4 * coarse::RESOLUTION);
        while std::time::Instant::now() < end {}
        let passed = Duration::from_nanos(coarse::now() - first);
        assert!(passed <= start.elapsed() + coarse::RESOLUTION);
        assert!(passed + coarse::RESOLUTION >= end - start);
    }
}
