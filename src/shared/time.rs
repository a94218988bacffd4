//! The store's clock, the only one that the protocol uses.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// A time by the store's clock, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StoreTime(pub(super) u64);

/// A reading of the store's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) time: StoreTime,
    /// Before the call.
    pub(super) asked: Instant,
    /// After the answer.
    pub(super) answered: Instant,
}

// ===== impl StoreTime =====

impl StoreTime {
    pub(super) fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(millis(since))
    }

    pub(super) fn system_time(self) -> Option<SystemTime> {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.0))
    }

    pub(super) fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    pub(super) fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// The time since an earlier one; zero if that one is later.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The duration in milliseconds, saturating.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

// ===== impl Reading =====

impl Reading {
    /// The store's time at that instant, or a little less.
    pub(super) fn at(&self, instant: Instant) -> StoreTime {
        self.time.plus(instant.saturating_duration_since(self.answered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reading_is_never_ahead_of_the_store() {
        let asked = Instant::now();
        let answered = asked + Duration::from_millis(200);
        let reading = Reading { time: StoreTime(1000), asked, answered };
        assert_eq!(reading.at(asked), StoreTime(1000));
        assert_eq!(reading.at(answered + Duration::from_millis(5)), StoreTime(1005));
    }

    #[test]
    fn times_beyond_all_bounds_do_not_overflow() {
        let last = StoreTime(u64::MAX);
        assert_eq!(last.plus(Duration::MAX), last);
        assert_eq!(StoreTime(0).since(last), Duration::ZERO);
        assert_eq!(StoreTime::of(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), StoreTime(0));
    }
}
