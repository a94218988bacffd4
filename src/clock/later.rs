//! Times that are later than others, without an overflow.

use std::time::Duration;

use tokio::time::Instant;

/// Further off than anything that happens, and within what every clock can show.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

pub(crate) trait Later {
    /// The time that much later. Beyond what the clock can show, it is a century later.
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
