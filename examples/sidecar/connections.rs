//! All connections of the clients: how many there may be, and their end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use crate::activity::{Activity, Limits, Why};

/// How long a connection is left alone from its beginning or its last request: the next one is
/// perhaps on its way.
const LEFT_ALONE: Duration = Duration::from_millis(500);

/// How long to wait for room before another connection is looked for that could make it.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

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

/// Room for one more.
pub(crate) type Room = OwnedSemaphorePermit;

/// A connection in the list, until it is dropped.
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

    /// Waits for room. Where there is none, a connection on which nothing is under way makes it.
    pub(crate) async fn room(&self) -> Room {
        loop {
            if let Ok(room) = Arc::clone(&self.room).try_acquire_owned() {
                return room;
            }
            self.make_room();
            let room = timeout(LOOK_AGAIN, Arc::clone(&self.room).acquire_owned()).await;
            if let Ok(room) = room {
                return room.expect("the semaphore is never closed");
            }
        }
    }

    /// Ends the connection that is needed least, if there is one that nobody uses.
    pub(crate) fn make_room(&self) {
        let (open, now) = (self.open(), Instant::now());
        let ranks = open.activities.values().filter_map(|one| Some((one.rank()?, one)));
        let ranks = ranks.filter(|((_, since), _)| now - *since >= LEFT_ALONE);
        if let Some((_, least)) = ranks.min_by_key(|(rank, _)| *rank) {
            least.tell_to_end(Why::Full);
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

    /// Ends every connection as soon as nothing is under way on it, and waits for that. No other
    /// may be added any more.
    pub(crate) async fn end(&self) {
        for activity in self.open().activities.values() {
            activity.tell_to_end(Why::Stop);
        }
        // All room is free once they are gone.
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

    fn is_told(listed: &Listed) -> bool {
        listed.activity.rank().is_none()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_never_asked_makes_room_before_who_is_idle() {
        let connections = Arc::new(Connections::new(3, LIMITS));
        let idle = add(&connections).await;
        drop(idle.activity.begin());
        let busy = add(&connections).await;
        let under_way = busy.activity.begin();
        advance(LEFT_ALONE).await;
        let silent = add(&connections).await;
        advance(LEFT_ALONE).await;
        connections.make_room();
        assert!(is_told(&silent) && !is_told(&idle));
        connections.make_room();
        assert!(is_told(&idle));
        connections.make_room();
        assert!(busy.activity.end().is_none());
        drop(under_way);
        advance(LEFT_ALONE).await;
        connections.make_room();
        assert!(is_told(&busy));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_just_come_or_just_asked_is_left_alone() {
        let connections = Arc::new(Connections::new(2, LIMITS));
        let one = add(&connections).await;
        connections.make_room();
        assert!(!is_told(&one));
        advance(LEFT_ALONE).await;
        drop(one.activity.begin());
        connections.make_room();
        assert!(!is_told(&one));
        advance(LEFT_ALONE).await;
        connections.make_room();
        assert!(is_told(&one));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_quiet_for_longest_makes_room() {
        let connections = Arc::new(Connections::new(2, LIMITS));
        let (first, second) = (add(&connections).await, add(&connections).await);
        drop(first.activity.begin());
        advance(Duration::from_secs(1)).await;
        drop(second.activity.begin());
        advance(Duration::from_secs(1)).await;
        connections.make_room();
        assert!(is_told(&first) && !is_told(&second));
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_waited_for_where_all_is_under_way() {
        let connections = Arc::new(Connections::new(1, LIMITS));
        let busy = add(&connections).await;
        let under_way = busy.activity.begin();
        let waiting = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { connections.room().await }
        });
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!waiting.is_finished() && busy.activity.end().is_none());
        // It is told once it has been quiet for a while.
        drop(under_way);
        tokio::time::sleep(LEFT_ALONE + LOOK_AGAIN).await;
        assert!(is_told(&busy));
        drop(busy);
        drop(waiting.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_when_the_last_is_gone() {
        let connections = Arc::new(Connections::new(2, LIMITS));
        let one = add(&connections).await;
        let ended = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { connections.end().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(is_told(&one) && !ended.is_finished());
        drop(one);
        ended.await.unwrap();
    }
}
