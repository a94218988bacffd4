//! A count that a test can wait for.

use tokio::sync::watch;

#[derive(Debug, Default)]
pub(super) struct Counter(watch::Sender<u64>);

// ===== impl Counter =====

impl Counter {
    pub(super) fn increment(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    pub(super) fn get(&self) -> u64 {
        *self.0.borrow()
    }

    pub(super) async fn reaches(&self, goal: u64) {
        // This fails only without a sender, which is here.
        let _ = self.0.subscribe().wait_for(|count| *count >= goal).await;
    }
}
