//! What distinguishes rules from other rules.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Each change gives rules a new number. A pass that is kept outside of the rules has the number of
/// those that it belongs to.
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
