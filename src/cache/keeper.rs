//! Keeps a token warm: fetches and refreshes it without traffic if the policy says so, or only
//! until the first token is here, after `warm_up`.
//!
//! Each cache has one keeper, a task that sleeps until there is something to do. The constructor of
//! the cache spawns it on the current runtime, and it outlives every flight. If there is no runtime
//! then, or that runtime goes, the next caller on another runtime spawns a keeper there. A keeper
//! ends only when the last handle of the cache is dropped. So a caller that finds the place taken
//! knows that the keeper will see each change.
//!
//! ```text
//! no keeper ──the cache is made or asked, on a runtime──▶ asleep ◀──changed──▶ asleep until then
//!     ▲                                                     │  ▲                  │
//!     │                                                     │  └──does it◀──time──┘
//!     ├──the runtime goes, the place is given back──────────┤
//!     └──────────────────────────── the end ◀──the last handle goes
//! ```

use std::{
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::{Either, select};
use tokio::{sync::watch, time::Instant};

use super::{
    sync::Single,
    tasks::{runtime, sleep_until},
};
use crate::clock::later::Later;

/// How long a keeper sleeps if it has nothing to wait for. It wakes when something changes.
const IDLE: Duration = Duration::from_secs(86_400);

/// What a keeper keeps warm.
pub(super) trait Warm: Send + Sync + 'static {
    /// Taken while there is a keeper.
    fn keeper(&self) -> &Single;

    fn changes(&self) -> watch::Receiver<()>;

    /// When there is something to do; `None` until something changes.
    fn warm_at(&self, now: Instant) -> Option<Instant>;

    /// Does what is due.
    fn keep_warm(self: Arc<Self>);
}

struct Keeper<W: Warm> {
    kept: Weak<W>,
    changes: watch::Receiver<()>,
}

/// Leaves a keeper on the current runtime, unless there is one.
pub(super) fn ensure<W: Warm>(kept: &Arc<W>) {
    if kept.keeper().take() {
        let keeper = Keeper { kept: Arc::downgrade(kept), changes: kept.changes() };
        // Without a runtime the keeper is dropped, which gives its place back.
        if let Ok(runtime) = runtime() {
            runtime.spawn(keeper.run());
        }
    }
}

// ===== impl Keeper =====

impl<W: Warm> Keeper<W> {
    async fn run(mut self) {
        while let Some(at) = self.next() {
            match select(pin!(sleep_until(at)), pin!(self.changes.changed())).await {
                Either::Left(_) => {
                    let Some(kept) = self.kept.upgrade() else { return };
                    kept.keep_warm();
                }
                Either::Right((Err(_closed), _)) => return,
                Either::Right((Ok(()), _)) => {}
            }
        }
    }

    /// `None` if the cache is gone.
    fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        Some(self.kept.upgrade()?.warm_at(now).unwrap_or_else(|| now.later(IDLE)))
    }
}

impl<W: Warm> Drop for Keeper<W> {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.upgrade() {
            kept.keeper().give_back();
        }
    }
}
