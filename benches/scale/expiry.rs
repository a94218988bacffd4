//! A steady load through the refresh of a token: nobody waits.

use std::time::{Duration, Instant};

use http::{Request, Response};
use tokio::runtime::Runtime;
use tower_bearer_benches::{
    Answer, Body, load, ready_header, request, rounds::Spread, slow::Slow, uri,
};
use tower_layer::Layer;
use tower_service::Service;

use crate::row;

const FETCH: Duration = Duration::from_millis(200);
const PER_MILLISECOND: usize = 10;
/// When the token is due; jitter puts that off by less than half a second.
const DUE: Duration = Duration::from_secs(1);
/// Of whole seconds the cache takes one away.
const LIFETIME: Duration = Duration::from_millis(2_100);
/// How long the load goes on: through the refresh, and not into the next.
const LOAD: Duration = Duration::from_millis(1700);

pub(crate) fn measure(runtime: &Runtime, rounds: usize) {
    println!("\n10,000 requests/s through a refresh; a fetch takes 200 ms");
    let (mut floor, mut ours, mut longest) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        floor.push(runtime.block_on(send(ready_header())));
        let slow = Slow::with_tokens(FETCH, LIFETIME, Some(DUE));
        let service = slow.layer().layer(Answer);
        ours.push(runtime.block_on(async {
            service.clone().call(request(&uri())).await.expect("there is a token");
            send(service).await
        }));
        assert!(slow.ended().len() >= 2, "it was refreshed");
    }
    longest.extend(ours.iter().map(|(_, longest)| *longest));
    let p999 = |rounds: &[(f64, f64)]| Spread::of(rounds.iter().map(|(p999, _)| *p999).collect());
    let (floor_p999, ours_p999) = (p999(&floor), p999(&ours));
    let floor_longest = Spread::of(floor.iter().map(|(_, longest)| *longest).collect());
    let longest = Spread::of(longest);
    let figure = |p999: Spread, longest: Spread| {
        format!("p99.9 {:.3} ms, longest {:.2} ms", p999.median, longest.median)
    };
    row("floor", &figure(floor_p999, floor_longest), "");
    row("1 refresh", &figure(ours_p999, longest), "no request over 20 ms");
    let (added, ratio) =
        (ours_p999.median - floor_p999.median, ours_p999.median / floor_p999.median);
    row("added to p99.9", &format!("{added:.3} ms, x {ratio:.1}"), "under 0.5 ms");
}

/// The wait of one in a thousand, and the longest one, in milliseconds.
async fn send<S>(service: S) -> (f64, f64)
where
    S: Service<Request<Body>, Response = Response<()>, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
    S::Error: std::fmt::Debug,
{
    let (start, uri) = (Instant::now(), uri());
    let request = || {
        let (mut service, request) = (service.clone(), request(&uri));
        async move { drop(service.call(request).await.expect("there is a token")) }
    };
    let waits = load::send(PER_MILLISECOND, request, || start.elapsed() < LOAD).await;
    let mut millis: Vec<_> = waits.iter().map(|(_, wait)| wait.as_secs_f64() * 1e3).collect();
    millis.sort_by(f64::total_cmp);
    (millis[(millis.len() - 1) * 999 / 1000], millis[millis.len() - 1])
}
