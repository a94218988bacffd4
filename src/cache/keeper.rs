//! Keeps a token warm: refreshes it without traffic, if the policy says so.
//!
//! There is one keeper for each cache, a task that sleeps until the next refresh is due. It is
//! on the runtime that was there when a flight was first started, and outlives every flight. If
//! that runtime goes, the next caller who asks the state on another one leaves a new keeper
//! there. It ends when the last handle of the cache is dropped.

use std::{
    pin::pin,
    sync::{Arc, Weak},
};

use futures_util::future::{Either, select};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Core, status::Status};

struct Keeper {
    core: Weak<Core>,
    changes: watch::Receiver<Status>,
}

/// Leaves a keeper on this runtime, unless there is one.
pub(super) fn ensure(core: &Arc<Core>, runtime: &Handle) {
    if core.policy.keep_warm && core.keeper.take() {
        let keeper = Keeper { core: Arc::downgrade(core), changes: core.changes.subscribe() };
        runtime.spawn(keeper.run());
    }
}

// ===== impl Keeper =====

impl Keeper {
    async fn run(mut self) {
        while let Some(at) = self.next() {
            match select(pin!(sleep_until(at)), pin!(self.changes.changed())).await {
                Either::Left(_) => {
                    let Some(core) = self.core.upgrade() else { return };
                    core.keep_warm();
                }
                Either::Right((Err(_closed), _)) => return,
                Either::Right((Ok(()), _)) => {}
            }
        }
    }

    /// When there is something to do; `None` if the cache is gone.
    fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        let at = self.core.upgrade()?.shared.lock().state.warm_at(now);
        // A token that never expires is looked at when something changes.
        Some(at.unwrap_or_else(|| now + std::time::Duration::from_secs(24 * 3600)))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.keeper.give_back();
        }
    }
}
