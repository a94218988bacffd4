//! A steady load of requests, each on a task of its own.

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

/// When a request was sent, and how long its answer took.
pub type Wait = (Instant, Duration);

const TICK: Duration = Duration::from_millis(1);

/// Sends so many requests each millisecond for as long as it is to go on.
pub async fn send<F>(
    each_tick: usize,
    request: impl Fn() -> F,
    goes_on: impl Fn() -> bool,
) -> Vec<Wait>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut tasks = Vec::new();
    while goes_on() {
        ticks.tick().await;
        for _ in 0..each_tick {
            let request = request();
            tasks.push(tokio::spawn(async move {
                let start = Instant::now();
                request.await;
                (start, start.elapsed())
            }));
        }
    }
    let mut waits = Vec::with_capacity(tasks.len());
    for task in tasks {
        waits.push(task.await.expect("a request has failed"));
    }
    waits
}
