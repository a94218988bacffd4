//! What the layer adds to a request when there is a usable token.
//!
//! The floor is a service that inserts a ready header. Beside it, in the same run and over the
//! same inner service, which answers at once: the layer with `no_replay()`, which keeps nothing
//! of the request, and the layer as it is by default, which keeps a clone.
//!
//! ```text
//! cargo bench --bench hot_path -- --quick
//! ```

use std::{
    convert::Infallible,
    fs,
    future::{Ready, ready},
    hint::black_box,
    path::{Path, PathBuf},
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::Bytes;
use criterion::{BatchSize, Criterion};
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body_util::Full;
use tower::{Layer, Service};
use tower_bearer::{AccessToken, BearerAuthLayer, TokenCache, TokenError, from_fn};

type Body = Full<Bytes>;

const GROUP: &str = "hot_path";
const FLOOR: &str = "ready header";
const NO_REPLAY: &str = "layer, NoReplay";
const CLONE_BODY: &str = "layer, CloneBody";

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let _inside = runtime.enter();
    let cache = TokenCache::new(from_fn(|_| async { token() }));
    runtime.block_on(cache.get()).expect("the source has a token");
    let layer = BearerAuthLayer::from_cache(cache)
        .origin("https://api.example.com")
        .expect("that is an origin");

    let (results, start) = (results(), SystemTime::now());
    let mut criterion = Criterion::default().output_directory(&results).configure_from_args();
    let ready_header = token().expect("that is a token").header_value().clone();
    measure(&mut criterion, FLOOR, InsertHeader { inner: Answer, ready_header });
    measure(&mut criterion, NO_REPLAY, layer.clone().no_replay().layer(Answer));
    measure(&mut criterion, CLONE_BODY, layer.layer(Answer));
    criterion.final_summary();
    print_ratios(&results, start);
}

/// Where criterion puts its results by default; here it is told, so that they can be found.
fn results() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("criterion")
}

fn token() -> Result<AccessToken, TokenError> {
    AccessToken::new("mF_9.B5f-4.1JqM").map_err(TokenError::permanent)
}

/// One request through the service, from `call` to the response.
fn measure<S>(criterion: &mut Criterion, name: &str, mut service: S)
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    criterion.benchmark_group(GROUP).bench_function(name, |bencher| {
        bencher.iter_batched(
            request,
            |request| {
                let response = service.call(black_box(request)).now_or_never();
                assert!(matches!(response, Some(Ok(_))), "the inner service answers at once");
                response
            },
            BatchSize::SmallInput,
        );
    });
}

fn request() -> Request<Body> {
    Request::post("https://api.example.com/v1/invoices")
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .body(Full::from(r#"{"amount":1}"#))
        .expect("that is a request")
}

/// One line with what criterion has just found out; nothing if it only tested, or left one out.
fn print_ratios(results: &Path, since: SystemTime) {
    let nanos = |name| estimate(&results.join(GROUP).join(name).join("new/estimates.json"), since);
    let [Some(floor), Some(no_replay), Some(clone_body)] =
        [FLOOR, NO_REPLAY, CLONE_BODY].map(nanos)
    else {
        return;
    };
    println!(
        "{FLOOR} {floor:.0} ns; {NO_REPLAY} {no_replay:.0} ns ({:.2} x); \
         {CLONE_BODY} {clone_body:.0} ns ({:.2} x)",
        no_replay / floor,
        clone_body / floor
    );
}

/// The time of one iteration, in nanoseconds, if the file is as new as that.
fn estimate(file: &Path, since: SystemTime) -> Option<f64> {
    if file.metadata().ok()?.modified().ok()? < since {
        return None;
    }
    let estimates: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    ["slope", "mean"].iter().find_map(|kind| estimates[kind]["point_estimate"].as_f64())
}

// ===== The floor =====

/// Inserts a header that is ready.
struct InsertHeader<S> {
    inner: S,
    ready_header: HeaderValue,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for InsertHeader<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> S::Future {
        request.headers_mut().insert(AUTHORIZATION, self.ready_header.clone());
        self.inner.call(request)
    }
}

// ===== The inner service =====

/// Answers at once.
#[derive(Clone)]
struct Answer;

impl Service<Request<Body>> for Answer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        black_box(request);
        ready(Ok(Response::new(Full::default())))
    }
}
