//! Caches that have their token and are asked nothing: what they weigh, and what they do.

use std::{
    fs,
    time::{Duration, Instant},
};

use tokio::{runtime::Runtime, task::JoinSet, time::sleep};
use tower_bearer::{RefreshPolicy, TokenCache};
use tower_bearer_benches::{TOKEN_LENGTH, heap::growth, slow::Slow};

use crate::row;

const CACHES: usize = 10_000;
/// Of the tokens that are refreshed. It is no number of seconds, of which one is taken away.
const LIFETIME: Duration = Duration::from_millis(10_500);

pub(crate) fn measure(runtime: &Runtime) {
    println!("\ncaches at rest; a token has {TOKEN_LENGTH} bytes");
    let slow = Slow::new(Duration::ZERO);
    let (caches, growth) = growth(|| runtime.block_on(filled(|| slow.cache())));
    assert_eq!(slow.ended().len(), CACHES, "a fetch for each");
    // The times that the source remembers are not theirs.
    let each = (growth.left - slow.weight()) / CACHES;
    let figure = format!("{each} bytes, {} above the token", each - TOKEN_LENGTH);
    row("10,000 caches, each", &figure, "at most 1024 above the token");
    let idle = spent_while_idle(runtime, Duration::from_secs(1));
    row("10,000 caches, idle for 1 s", &format!("{idle:?} of a core"), "none");
    drop(caches);
    due_at_once(runtime);
}

/// All are kept warm, and were filled within a moment.
fn due_at_once(runtime: &Runtime) {
    // The last fifth of its life, lengthened by up to half of itself.
    let window = LIFETIME.mul_f64(0.1);
    let policy = || RefreshPolicy::builder().keep_warm(true).build().expect("that is a policy");
    let slow = Slow::with_tokens(Duration::ZERO, LIFETIME, None);
    let caches = runtime.block_on(filled(|| slow.cache_with(policy())));
    let filled = Instant::now();
    let idle = spent_while_idle(runtime, Duration::from_secs(2));
    row("10,000 kept warm, idle for 2 s", &format!("{idle:?} of a core"), "none");
    let until_due = LIFETIME.mul_f64(0.8).saturating_sub(filled.elapsed());
    runtime.block_on(async { sleep(until_due).await });
    let fetches = slow.fetches();
    assert!(fetches.len() >= 2 * CACHES, "a refresh for each");
    let refreshes: Vec<_> = fetches[CACHES..2 * CACHES].iter().map(|(begin, _)| *begin).collect();
    let took = refreshes[CACHES - 1] - refreshes[0];
    let most = most_within(&refreshes, Duration::from_millis(100));
    let figure = format!("{took:.2?}, at most {most} in 100 ms");
    row(
        "10,000 due at once: refreshes spread over",
        &figure,
        &format!("{window:.2?}, 950 in 100 ms"),
    );
    drop(caches);
}

/// Caches that have their token, all at once.
async fn filled(cache: impl Fn() -> TokenCache) -> Vec<TokenCache> {
    let caches: Vec<_> = (0..CACHES).map(|_| cache()).collect();
    let mut tasks = JoinSet::new();
    for cache in caches.clone() {
        tasks.spawn(async move { cache.get().await.is_ok() });
    }
    assert!(tasks.join_all().await.into_iter().all(|has_token| has_token), "there is a token");
    caches
}

/// How many of these are within such a time of one another, at most.
fn most_within(times: &[Instant], limit: Duration) -> usize {
    let within = |(nth, time): (usize, &Instant)| {
        times[nth..].iter().take_while(|later| **later - *time <= limit).count()
    };
    times.iter().enumerate().map(within).max().unwrap_or_default()
}

fn spent_while_idle(runtime: &Runtime, time: Duration) -> Duration {
    let before = processor_time();
    runtime.block_on(async { sleep(time).await });
    processor_time().saturating_sub(before)
}

/// What this process has had of all cores. Linux tells it in hundredths of a second.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
