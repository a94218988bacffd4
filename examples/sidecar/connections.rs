//! The list of the clients' connections, with a limit on their number.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use crate::activity::{Activity, EndReason, Limits};

/// How long a connection must have been quiet before it makes room for another one: its next
/// request may be on its way.
const MIN_QUIET: Duration = Duration::from_millis(500);

/// How long to wait for room before looking for another connection that could make it.
const RECHECK: Duration = Duration::from_millis(50);

pub(crate) struct Connections {
    max: u32,
    limits: Limits,
    room: Arc<Semaphore>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    activities: HashMap<u64, Arc<Activity>>,
}

/// A permit for one more connection.
pub(crate) type Room = OwnedSemaphorePermit;

/// A connection in the list. It leaves the list when it is dropped.
pub(crate) struct Listed {
    pub(crate) activity: Arc<Activity>,
    number: u64,
    connections: Arc<Connections>,
    _room: Room,
}

// ===== impl Connections =====

impl Connections {
    pub(crate) fn new(max: u32, limits: Limits) -> Self {
        let room = Arc::new(Semaphore::new(max as usize));
        metrics::gauge!("sidecar_connections").set(0);
        Self { max, limits, room, open: Mutex::default() }
    }

    /// Waits for room. If there is none, asks quiet connections to end.
    pub(crate) async fn room(&self) -> Room {
        loop {
            if let Ok(room) = Arc::clone(&self.room).try_acquire_owned() {
                return room;
            }
            self.make_room();
            let room = timeout(RECHECK, Arc::clone(&self.room).acquire_owned()).await;
            if let Ok(room) = room {
                return room.expect("the semaphore is never closed");
            }
        }
    }

    /// Ends the quiet connection with the lowest rank, if there is one.
    pub(crate) fn make_room(&self) {
        let (open, now) = (self.open(), Instant::now());
        let ranks = open.activities.values().filter_map(|one| Some((one.rank()?, one)));
        let ranks = ranks.filter(|((_, since), _)| now - *since >= MIN_QUIET);
        if let Some((_, least)) = ranks.min_by_key(|(rank, _)| *rank) {
            least.request_end(EndReason::Full);
        }
    }

    pub(crate) fn add(self: &Arc<Self>, room: Room) -> Listed {
        let activity = Arc::new(Activity::new(self.limits, Instant::now()));
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        open.activities.insert(number, Arc::clone(&activity));
        drop(open);
        metrics::gauge!("sidecar_connections").increment(1);
        Listed { activity, number, connections: Arc::clone(self), _room: room }
    }

    /// Ends each connection as soon as it has no request in progress, and waits until all are gone.
    /// The caller must add no more connections.
    pub(crate) async fn end(&self) {
        for activity in self.open().activities.values() {
            activity.request_end(EndReason::Stop);
        }
        // All permits are free once the connections are gone.
        drop(self.room.acquire_many(self.max).await);
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.connections.open().activities.remove(&self.number);
        metrics::gauge!("sidecar_connections").decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const LIMITS: Limits =
        Limits { headers: Duration::from_secs(10), idle: Duration::from_secs(120) };

    async fn add(connections: &Arc<Connections>) -> Listed {
        connections.add(connections.room().await)
    }

    fn is_ending(listed: &Listed) -> bool {
        listed.activity.rank().is_none()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_makes_room_before_an_idle_one() {
        let connections = Arc::new(Connections::new(3, LIMITS));
        let idle = add(&connections).await;
        drop(idle.activity.begin());
        let busy = add(&connections).await;
        let in_progress = busy.activity.begin();
        advance(MIN_QUIET).await;
        let silent = add(&connections).await;
        advance(MIN_QUIET).await;
        connections.make_room();
        assert!(is_ending(&silent) && !is_ending(&idle));
        connections.make_room();
        assert!(is_ending(&idle));
        connections.make_room();
        assert!(busy.activity.end().is_none());
        drop(in_progress);
        advance(MIN_QUIET).await;
        connections.make_room();
        assert!(is_ending(&busy));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_or_recently_used_connection_does_not_make_room() {
        let connections = Arc::new(Connections::new(2, LIMITS));
        let one = add(&connections).await;
        connections.make_room();
        assert!(!is_ending(&one));
        advance(MIN_QUIET).await;
        drop(one.activity.begin());
        connections.make_room();
        assert!(!is_ending(&one));
        advance(MIN_QUIET).await;
        connections.make_room();
        assert!(is_ending(&one));
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_was_quiet_for_longest_makes_room() {
        let connections = Arc::new(Connections::new(2, LIMITS));
        let (first, second) = (add(&connections).await, add(&connections).await);
        drop(first.activity.begin());
        advance(Duration::from_secs(1)).await;
        drop(second.activity.begin());
        advance(Duration::from_secs(1)).await;
        connections.make_room();
        assert!(is_ending(&first) && !is_ending(&second));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_waits_while_all_others_are_busy() {
        let connections = Arc::new(Connections::new(1, LIMITS));
        let busy = add(&connections).await;
        let in_progress = busy.activity.begin();
        let waiting = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { connections.room().await }
        });
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!waiting.is_finished() && busy.activity.end().is_none());
        // It is asked to end once it has been quiet long enough.
        drop(in_progress);
        tokio::time::sleep(MIN_QUIET + RECHECK).await;
        assert!(is_ending(&busy));
        drop(busy);
        drop(waiting.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_ends_with_the_last_connection() {
        let connections = Arc::new(Connections::new(2, LIMITS));
        let one = add(&connections).await;
        let ended = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { connections.end().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(is_ending(&one) && !ended.is_finished());
        drop(one);
        ended.await.unwrap();
    }
}
