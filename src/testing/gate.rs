//! Where requests wait until the test releases them.

use tokio::sync::watch;

/// Open as long as nothing holds it.
#[derive(Debug, Default)]
pub(super) struct Gate {
    holders: watch::Sender<usize>,
}

/// Keeps requests waiting until it is [released](Self::release) or dropped.
///
/// If there is more than one for a server, requests continue when the last one is released.
#[derive(Debug)]
#[must_use = "requests wait only as long as it lives"]
pub struct Held {
    holders: watch::Sender<usize>,
}

// ===== impl Gate =====

impl Gate {
    pub(super) fn hold(&self) -> Held {
        self.holders.send_modify(|holders| *holders += 1);
        Held { holders: self.holders.clone() }
    }

    pub(super) async fn pass(&self) {
        // This fails only without a sender, which is here.
        let _ = self.holders.subscribe().wait_for(|holders| *holders == 0).await;
    }
}

// ===== impl Held =====

impl Held {
    /// Lets the requests continue.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.holders.send_modify(|holders| *holders -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_last_one_to_release_lets_requests_go() {
        let gate = Gate::default();
        let (first, second) = (gate.hold(), gate.hold());
        drop(first);
        assert!(gate.pass().now_or_never().is_none());
        second.release();
        assert!(gate.pass().now_or_never().is_some());
    }
}
