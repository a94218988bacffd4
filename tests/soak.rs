//! A long run over real sockets: tokens of two seconds, faults, revocations, keys that come and go. At
//! the end there is no more memory, task, socket or file than after the first quarter (or minute), and no
//! call has failed that should not have.
//!
//! ```sh
//! SOAK_SECONDS=600 SOAK_RATE=2000 cargo test --release --all-features --test soak -- --ignored --nocapture
//! ```
//!
//! `SOAK_SEED` repeats the faults of another run.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, Request, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::Semaphore,
    time::{MissedTickBehavior, interval, timeout},
};
use tower::{BoxError, Layer, ServiceExt};
use tower_bearer::{
    BearerAuthLayer, CacheError, KeyedTokenCache, TokenCache, TokenError, TokenKey,
    oauth2::{ReqwestService, TokenEndpoint},
};

/// Bytes that are in use by all threads; `common/heap.rs` counts those of one.
struct Counting;

static IN_USE: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: all memory is the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(size(layout), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(size(layout), Relaxed);
        unsafe { System.dealloc(memory, layout) }
    }
}

fn size(layout: Layout) -> i64 {
    i64::try_from(layout.size()).unwrap_or(i64::MAX)
}

/// What must not grow.
#[derive(Clone, Copy, Debug)]
struct Held {
    bytes: i64,
    tasks: usize,
    files: usize,
    sockets: usize,
}

impl Held {
    fn now() -> Self {
        let links = || fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let is_socket = |path: &std::path::Path| path.to_string_lossy().starts_with("socket:");
        Self {
            bytes: IN_USE.load(Relaxed),
            tasks: Handle::current().metrics().num_alive_tasks(),
            files: links().count(),
            sockets: links()
                .filter_map(|link| fs::read_link(link.path()).ok())
                .filter(|link| is_socket(link))
                .count(),
        }
    }

    /// Once no call is under way.
    async fn at_rest(room: &Semaphore) -> Self {
        let _all = timeout(BOUND, room.acquire_many(ROOM)).await.expect("it hangs").unwrap();
        Self::now()
    }
}

/// How many calls are under way at most.
const ROOM: u32 = 200;
/// How many idle connections a client keeps to each server.
const IDLE: usize = 16;
const BOUND: Duration = Duration::from_secs(60);
/// A fault has been got over before the next one comes.
const BETWEEN_FAULTS: Duration = Duration::from_secs(5);

// ===== The servers =====

/// Both servers keep nothing, which those of `testing` do: a token says itself when it expires, and
/// in which era it was issued.
struct World {
    begin: Instant,
    /// A revocation ends it.
    era: AtomicU64,
    failures: AtomicU64,
    delay: AtomicU64,
    fetches: AtomicU64,
}

const LIFE: u64 = 2;

async fn issue(State(world): State<Arc<World>>) -> Response {
    world.fetches.fetch_add(1, Relaxed);
    tokio::time::sleep(Duration::from_millis(world.delay.load(Relaxed))).await;
    let fails = world.failures.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
    if let Ok(left) = fails {
        let status = [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::TOO_MANY_REQUESTS];
        return status[usize::from(left % 2 == 0)].into_response();
    }
    let expires = world.begin.elapsed() + Duration::from_secs(LIFE);
    let token = format!("{}.{}", world.era.load(Relaxed), expires.as_millis());
    format!(r#"{{"access_token":"{token}","expires_in":{LIFE}}}"#).into_response()
}

async fn call(State(world): State<Arc<World>>, headers: HeaderMap, body: String) -> Response {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok());
    let token = token.and_then(|token| token.strip_prefix("Bearer ")?.split_once('.'));
    let is_good = token.is_some_and(|(era, expires)| {
        let now = world.begin.elapsed().as_millis();
        era.parse() == Ok(world.era.load(Relaxed))
            && expires.parse().is_ok_and(|end: u128| now < end)
    });
    if is_good { body.into_response() } else { StatusCode::UNAUTHORIZED.into_response() }
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    origin
}

// ===== The calls =====

#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU64,
    rejected: AtomicU64,
    forgotten: AtomicU64,
    without_token: AtomicU64,
    failed: AtomicU64,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// What became of one call.
fn count(counts: &Counts, outcome: Result<StatusCode, BoxError>) {
    counts.calls.fetch_add(1, Relaxed);
    match outcome {
        Ok(StatusCode::OK) => {}
        // A token of a key that was renewed, never used, and revoked again.
        Ok(StatusCode::UNAUTHORIZED) => {
            counts.rejected.fetch_add(1, Relaxed);
        }
        Err(error) => match TokenError::find_in(&*error) {
            // As documented: a caller that waits for the token of a forgotten key gets an error.
            Some(error) if matches!(error.downcast_ref(), Some(CacheError::Forgotten)) => {
                counts.forgotten.fetch_add(1, Relaxed);
            }
            Some(error) => {
                counts.without_token.fetch_add(1, Relaxed);
                eprintln!("no token: {error}");
            }
            None => {
                counts.failed.fetch_add(1, Relaxed);
                eprintln!("a call failed that should not have: {error:?}");
            }
        },
        Ok(other) => {
            counts.failed.fetch_add(1, Relaxed);
            eprintln!("an answer that nobody gives: {other}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes as long as SOAK_SECONDS says"]
async fn after_a_long_run_with_faults_nothing_is_held_that_was_not_held_at_its_beginning() {
    let seconds = number("SOAK_SECONDS", 20);
    let rate = number("SOAK_RATE", 400);
    let seed = number("SOAK_SEED", fastrand::u64(..));
    println!("SOAK_SEED={seed} SOAK_SECONDS={seconds} SOAK_RATE={rate}");
    let mut random = fastrand::Rng::with_seed(seed);

    let world = Arc::new(World {
        begin: Instant::now(),
        era: AtomicU64::new(0),
        failures: AtomicU64::new(0),
        delay: AtomicU64::new(0),
        fetches: AtomicU64::new(0),
    });
    let url = serve(Router::new().route("/token", post(issue)).with_state(world.clone())).await;
    let api = serve(Router::new().fallback(call).with_state(world.clone())).await;
    let client = reqwest::Client::builder().pool_max_idle_per_host(IDLE).no_proxy();
    let service = ReqwestService::new(client.build().unwrap());
    let endpoint = || {
        let endpoint = TokenEndpoint::builder(format!("{url}/token")).client_id("me");
        endpoint.client_secret("hush").transport(service.clone()).build().unwrap()
    };
    let keyed = KeyedTokenCache::builder(endpoint()).capacity(50).idle(Duration::from_secs(3));
    let keyed = keyed.build().unwrap();
    let single = TokenCache::new(endpoint());
    let one = BearerAuthLayer::from_cache(&single).origin(&api).unwrap().layer(service.clone());
    let many = BearerAuthLayer::from_cache(&keyed).origin(&api).unwrap().layer(service);

    let counts = Arc::new(Counts::default());
    let room = Arc::new(Semaphore::new(ROOM as usize));
    let (begin, end) = (world.begin, Duration::from_secs(seconds));
    let measured_at = Duration::from_secs((seconds / 4).clamp(1, 60));
    let (mut first, mut told, mut fault) = (None, Duration::ZERO, Duration::ZERO);
    let mut tick = interval(Duration::from_millis(10));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while begin.elapsed() < end {
        tick.tick().await;
        for _ in 0..rate.div_ceil(100) {
            let permit = Arc::clone(&room).acquire_owned().await.unwrap();
            let key = (random.u8(..4) == 0).then(|| {
                // Keys that come, are used for a second, and do not come again.
                let name = begin.elapsed().as_secs() * 20 + random.u64(..30);
                TokenKey::new().scope(format!("s{name}"))
            });
            let stack = if key.is_some() { many.clone() } else { one.clone() };
            let mut request = Request::post(&*api).body("a body".to_owned()).unwrap();
            if let Some(key) = &key {
                request.extensions_mut().insert(key.clone());
            }
            let is_dropped = random.u8(..50) == 0;
            let counts = Arc::clone(&counts);
            tokio::spawn(async move {
                let _permit = permit;
                let call = stack.oneshot(request);
                if is_dropped {
                    // A caller that does not wait.
                    drop(timeout(Duration::from_millis(1), call).await);
                    return;
                }
                let outcome = timeout(BOUND, call).await.map_err(|_| BoxError::from("it hangs"));
                count(&counts, outcome.and_then(|outcome| outcome).map(|answer| answer.status()));
            });
            if let Some(key) = key.filter(|_| random.u8(..100) == 0) {
                keyed.forget(&key);
            }
        }
        let now = begin.elapsed();
        if now >= fault + BETWEEN_FAULTS {
            fault = now;
            match random.u8(..4) {
                0 | 1 => drop(world.era.fetch_add(1, Relaxed)),
                2 => world.failures.store(random.u64(1..3), Relaxed),
                _ => world.delay.store(random.u64(..100), Relaxed),
            }
        }
        if first.is_none() && now >= measured_at {
            first = Some(Held::at_rest(&room).await);
        }
        if now >= told + Duration::from_secs(5) {
            told = now;
            println!(
                "{:>4} s: {counts:?}, {} fetches, {} keys, {:?}",
                now.as_secs(),
                world.fetches.load(Relaxed),
                keyed.len(),
                Held::now()
            );
        }
    }
    let (first, last) = (first.expect("measured"), Held::at_rest(&room).await);
    println!("after {measured_at:?}: {first:?}\nat the end: {last:?}\n{counts:?}");

    assert_eq!(counts.failed.load(Relaxed), 0, "{counts:?}");
    assert_eq!(
        counts.without_token.load(Relaxed),
        0,
        "a fault is shorter than a flight: {counts:?}"
    );
    let calls = counts.calls.load(Relaxed);
    assert!(calls > seconds * 50, "{counts:?}");
    assert!(counts.rejected.load(Relaxed) * 1000 <= calls, "{counts:?}");
    // Idle connections come and go, at both ends, and each has a task or two.
    let idle = 4 * IDLE;
    assert!(last.sockets <= first.sockets + idle, "{first:?} {last:?}");
    assert!(last.files <= first.files + idle, "{first:?} {last:?}");
    assert!(last.tasks <= first.tasks + 2 * idle, "{first:?} {last:?}");
    assert!(last.bytes <= first.bytes + (4 << 20), "{first:?} {last:?}");
}
