//! A token is revoked while many requests with it are in flight: one fetch, and all succeed.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, Response, StatusCode, header::AUTHORIZATION};
use tokio::{runtime::Runtime, sync::Barrier, task::JoinSet, time::sleep};
use tower_bearer_benches::{Body, request, slow::Slow, uri};
use tower_layer::Layer;
use tower_service::Service;

use crate::row;

const REQUESTS: u32 = 1_000;
const FETCH: Duration = Duration::from_millis(50);

pub(crate) fn measure(runtime: &Runtime) {
    println!("\n1,000 requests in flight get a 401; a fetch takes 50 ms");
    for (name, spread) in [("all at once", 0), ("over 100 ms", 100)] {
        let took = runtime.block_on(storm(Duration::from_millis(spread)));
        let figure = format!("all done after {:.0} ms", took.as_secs_f64() * 1e3);
        row(&format!("{name}: 1 fetch, 2,000 calls, 1,000 succeed"), &figure, "just so");
    }
}

/// How long after the first 401 the last request has its answer.
async fn storm(spread: Duration) -> Duration {
    let slow = Slow::new(FETCH);
    let cache = slow.cache();
    let layer = tower_bearer::BearerAuthLayer::from_cache(cache.clone());
    let layer = layer.origin(tower_bearer_benches::ORIGIN).expect("that is an origin");
    let revoked = cache.get().await.expect("there is a token").header_value().clone();
    let api = Api(Arc::new(State {
        revoked,
        in_flight: Barrier::new(REQUESTS as usize),
        calls: AtomicU32::new(0),
        rejected: AtomicU32::new(0),
        spread,
    }));
    let (service, uri) = (layer.layer(api.clone()), uri());
    let mut answers = JoinSet::new();
    for _ in 0..REQUESTS {
        answers.spawn(service.clone().call(request(&uri)));
    }
    let start = Instant::now();
    let answers = answers.join_all().await;
    let took = start.elapsed();
    let succeeded =
        |answer: Result<Response<()>, _>| answer.is_ok_and(|answer| answer.status() == 200);
    assert!(answers.into_iter().all(succeeded), "all succeed");
    assert_eq!(slow.ended().len(), 2, "one token before, and one fetch");
    assert_eq!(api.0.calls.load(Relaxed), 2 * REQUESTS, "the number of calls");
    took
}

/// Rejects one token as soon as all requests with it are here.
#[derive(Clone)]
struct Api(Arc<State>);

struct State {
    revoked: HeaderValue,
    in_flight: Barrier,
    calls: AtomicU32,
    rejected: AtomicU32,
    spread: Duration,
}

impl Service<Request<Body>> for Api {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<()>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            state.calls.fetch_add(1, Relaxed);
            let mut response = Response::new(());
            let token = request.headers().get(AUTHORIZATION).expect("there is a token");
            if *token == state.revoked {
                state.in_flight.wait().await;
                let nth = state.rejected.fetch_add(1, Relaxed);
                sleep(state.spread * nth / REQUESTS).await;
                *response.status_mut() = StatusCode::UNAUTHORIZED;
            }
            Ok(response)
        })
    }
}
