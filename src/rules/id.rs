//! What tells rules from others.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Rules before and after a change are two: a pass that was left outside of them says for which ones
/// it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct RulesId(u64);

// ===== impl RulesId =====

impl RulesId {
    pub(super) fn number(self) -> u64 {
        self.0
    }
}

impl Default for RulesId {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}
