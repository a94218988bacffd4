//! Adding to a time without an overflow.

use std::time::Duration;

use tokio::time::Instant;

/// Later than any event, and within the range of every clock.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

pub(crate) trait Later {
    /// The time that much later, or a century later if that exceeds the range of the clock.
    fn later(self, by: Duration) -> Self;
}

impl Later for Instant {
    fn later(self, by: Duration) -> Self {
        self.checked_add(by.min(CENTURY)).unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_too_far_off() {
        let now = Instant::now();
        assert_eq!(now.later(Duration::from_secs(5)), now + Duration::from_secs(5));
        assert_eq!(now.later(Duration::MAX), now + CENTURY);
    }
}
