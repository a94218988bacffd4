//! Many tasks and no token: one fetch, and all are done soon after it.
//!
//! The floor is as many tasks that wait for a `watch` of tokio, which changes when the fetch would
//! have ended, and then insert a ready header.

use std::time::{Duration, Instant};

use http::Response;
use tokio::{runtime::Runtime, sync::watch, task::JoinSet, time::sleep};
use tower_bearer_benches::{
    Answer, heap::growth, ready_header, request, rounds::Spread, slow::Slow, uri,
};
use tower_layer::Layer;
use tower_service::Service;

use crate::row;

const FETCH: Duration = Duration::from_millis(200);
/// Time enough for all tasks to be there before the fetch ends.
const LONG_FETCH: Duration = Duration::from_secs(2);
const TASKS: usize = 10_000;

pub(crate) fn measure(runtime: &Runtime, rounds: usize, many: usize) {
    println!("\ntasks on a cold cache; a fetch takes 200 ms");
    let (mut floor, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        floor.push(millis(runtime.block_on(wait_for_a_watch(TASKS, FETCH))));
        ours.push(millis(runtime.block_on(wait_for_a_token(TASKS, FETCH))));
    }
    let (floor, ours) = (Spread::of(floor), Spread::of(ours));
    let text = |spread: Spread| {
        format!("{:.1} ms ({:.1} to {:.1})", spread.median, spread.low, spread.high)
    };
    row("floor, 10,000: all done after", &text(floor), "");
    let figure = format!("{}, x {:.1}", text(ours), ours.median / floor.median);
    row("10,000: 1 fetch, all done after", &figure, "at most 15 ms");

    let floor = bytes(runtime, TASKS, wait_for_a_watch);
    row("floor, 10,000: heap at its peak, each", &format!("{floor} bytes"), "");
    let (_, headers) = growth(|| request(&uri()));
    for tasks in [TASKS, many] {
        let each = bytes(runtime, tasks, wait_for_a_token);
        let figure = format!("{each} bytes, {} above the floor", each - floor);
        row(&format!("{tasks}: heap at its peak, each"), &figure, "linear");
        let without = format!("{} bytes", each - headers.left);
        row(&format!("{tasks}: without the request's headers"), &without, "at most 1434 bytes");
    }
    let took = runtime.block_on(wait_for_a_token(many, FETCH));
    row(&format!("{many}: 1 fetch, all done after"), &format!("{:.1} ms", millis(took)), "");
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn bytes<F>(runtime: &Runtime, tasks: usize, run: impl Fn(usize, Duration) -> F) -> usize
where
    F: Future<Output = Duration>,
{
    // The memory of the runtime itself is not the tasks'.
    runtime.block_on(run(tasks, LONG_FETCH));
    let (_, growth) = growth(|| runtime.block_on(run(tasks, LONG_FETCH)));
    growth.peak / tasks
}

/// How long after the fetch has ended the last task has its answer.
async fn wait_for_a_token(tasks: usize, fetch: Duration) -> Duration {
    let slow = Slow::new(fetch);
    let (service, uri) = (slow.layer().layer(Answer), uri());
    let mut answers = JoinSet::new();
    for _ in 0..tasks {
        answers.spawn(service.clone().call(request(&uri)));
    }
    let answers = answers.join_all().await;
    let end = Instant::now();
    assert!(answers.into_iter().all(|answer| answer.is_ok()), "there is a token");
    let ended = slow.ended();
    assert_eq!(ended.len(), 1, "the number of fetches");
    end - ended[0]
}

async fn wait_for_a_watch(tasks: usize, fetch: Duration) -> Duration {
    let (sender, receiver) = watch::channel(None);
    let (service, uri) = (ready_header(), uri());
    let mut answers: JoinSet<Response<()>> = JoinSet::new();
    for _ in 0..tasks {
        let (mut service, mut receiver, request) =
            (service.clone(), receiver.clone(), request(&uri));
        answers.spawn(async move {
            receiver.wait_for(Option::is_some).await.expect("the sender stays");
            let Ok(response) = service.call(request).await;
            response
        });
    }
    sleep(fetch).await;
    let ended = Instant::now();
    sender.send_replace(Some(()));
    answers.join_all().await;
    ended.elapsed()
}
