//! One and two threads with clones of one service.

use std::{
    hint::black_box,
    pin::pin,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use futures_executor::block_on;
use futures_util::FutureExt;
use http::{Request, Response, Uri};
use tokio::runtime::Handle;
use tower_bearer::{Origin, Rejection};
use tower_service::Service;

use crate::{Body, Tokens, request, rounds::Effort, uri};

/// What a service does on one thread and on two.
#[derive(Debug, Default)]
pub struct Throughput {
    /// Requests a second on one thread, in the best round.
    pub of_one: f64,
    /// Requests a second, both threads together, in the best round.
    pub of_two: f64,
    /// How many requests did not find a token that was ready, in all rounds.
    pub waited: u64,
}

impl Throughput {
    /// How much of what one thread does each of two does: 1 if they do not hinder one another.
    #[must_use]
    pub fn scaling(&self) -> f64 {
        self.of_two / (2.0 * self.of_one)
    }
}

/// A service on so many threads, measured once with so many requests on each.
pub type Run<'a> = Box<dyn FnMut(u32, u32) -> (Duration, u64) + 'a>;

/// Measures the services in turn.
#[must_use]
pub fn measure<const N: usize>(effort: Effort, mut runs: [Run<'_>; N]) -> [Throughput; N] {
    let mut results = [(); N].map(|()| Throughput::default());
    for _ in 0..effort.rounds {
        for (run, result) in runs.iter_mut().zip(&mut results) {
            for threads in [1, 2] {
                let (time, waited) = run(threads, effort.requests);
                let throughput = f64::from(threads * effort.requests) / time.as_secs_f64();
                let best = if threads == 1 { &mut result.of_one } else { &mut result.of_two };
                *best = best.max(throughput);
                result.waited += waited;
            }
        }
    }
    results
}

/// What a thread calls.
#[derive(Clone, Copy, Debug)]
pub enum Clones {
    /// A clone of its own.
    OneEach,
    /// A new clone for each request, of the one service that the threads share.
    OneForEachRequest,
}

/// A service to be measured.
pub fn run<'a, S>(runtime: &Handle, service: &'a S, clones: Clones) -> Run<'a>
where
    S: Service<Request<Body>, Response = Response<()>> + Clone + Send + Sync,
{
    let runtime = runtime.clone();
    Box::new(move |threads, requests| {
        let (barrier, waited) = (Barrier::new(threads as usize), AtomicU64::new(0));
        let thread = || {
            let _inside = runtime.enter();
            let (mut own, uri) = (service.clone(), uri());
            barrier.wait();
            let start = Instant::now();
            let count = match clones {
                Clones::OneEach => (0..requests).filter(|_| !is_ready(&mut own, &uri)).count(),
                Clones::OneForEachRequest => {
                    (0..requests).filter(|_| !is_ready(&mut service.clone(), &uri)).count()
                }
            };
            let end = Instant::now();
            waited.fetch_add(count as u64, Relaxed);
            (start, end)
        };
        let times = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(thread)).collect();
            let ends = threads.into_iter().map(|thread| thread.join().expect("a request failed"));
            ends.collect::<Vec<_>>()
        });
        let start = times.iter().map(|(start, _)| *start).min().expect("there are threads");
        let end = times.iter().map(|(_, end)| *end).max().expect("there are threads");
        (end - start, waited.into_inner())
    })
}

/// One request; whether it was answered at once.
fn is_ready<S>(service: &mut S, uri: &Uri) -> bool
where
    S: Service<Request<Body>, Response = Response<()>>,
{
    let mut response = pin!(service.call(black_box(request(uri))));
    let at_once = response.as_mut().now_or_never();
    let is_ready = at_once.is_some();
    let answer = at_once.unwrap_or_else(|| block_on(response));
    assert!(black_box(answer).is_ok(), "there is a token");
    is_ready
}

/// Puts a new token into the cache every millisecond while the work is done; also says how often
/// one came.
///
/// The cache limits how often one origin may renew a token, and one that has accepted none may not
/// do it twice. So each renewal is for another origin, which has accepted the token before.
pub fn while_refreshing<R>(
    runtime: &Handle,
    tokens: &Tokens,
    work: impl FnOnce() -> R,
) -> (R, Duration) {
    let (start, before) = (Instant::now(), tokens.fetched());
    let is_over = AtomicBool::new(false);
    let refresh = || {
        for nth in 1_u32.. {
            let origin = format!("https://replica-{}.example.com", nth % 1000);
            let origin: Origin = origin.parse().expect("that is an origin");
            let token = tokens.cache.current().expect("it lives for an hour");
            tokens.cache.accepted(&token, Some(&origin));
            let renewal = tokens.cache.renew(Rejection::new(token).with_origin(origin));
            runtime.block_on(renewal).expect("the source has another token");
            if is_over.load(Relaxed) {
                return;
            }
            let next = start + nth * Duration::from_millis(1);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    };
    let result = thread::scope(|scope| {
        scope.spawn(refresh);
        let result = work();
        is_over.store(true, Relaxed);
        result
    });
    let came = u32::try_from(tokens.fetched() - before).expect("that would take weeks");
    (result, start.elapsed() / came)
}
