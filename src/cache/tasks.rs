//! The tasks and timers of the cache, all of them: a schedule explorer replaces this module.

#[cfg(all(test, schedules))]
mod explored;

#[cfg(all(test, schedules))]
pub(super) use self::explored::*;
#[cfg(not(all(test, schedules)))]
pub(super) use self::tokios::*;

#[cfg(not(all(test, schedules)))]
mod tokios {
    pub(in crate::cache) use tokio::{
        runtime::Handle as Runtime,
        task::AbortHandle,
        time::{sleep, sleep_until, timeout, timeout_at},
    };

    pub(in crate::cache) use crate::clock::{poll_timer, runtime};
}
