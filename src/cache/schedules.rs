//! The schedules of the threads that share a cache: all of them where there are few, else as many
//! random ones as `SCHEDULES` says. `.ci/schedules` runs this.
//!
//! What [`sync`](super::sync) and [`tasks`](super::tasks) offer is the explorer's here; the channels are
//! tokio's, and an operation on them is one step. Where an operation may be reordered the explorer
//! does not look: it takes each for sequentially consistent.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use shuttle::{
    Config, Runner,
    future::{block_on, yield_now},
    rand::{Rng, thread_rng},
    scheduler::{DfsScheduler, RandomScheduler, Scheduler},
    thread,
};

use tokio::time::Instant;

use super::{
    RefreshPolicy, Rejection, TokenCache,
    answer::Grant,
    published::Published,
    sync::Single,
    tasks::{Runtime, explored, ring},
};
use crate::{
    error::TokenError,
    origin::Origin,
    source::{TokenRequest, TokenSource},
    token::AccessToken,
};

// ===== The source =====

/// Its tokens are numbered as they are made. It watches that nobody asks while another one waits.
#[derive(Clone, Default)]
struct Source(Arc<Asked>);

#[derive(Default)]
struct Asked {
    fetches: AtomicUsize,
    waiting: AtomicUsize,
    /// The fetches that are to fail, and those that are to panic.
    fails: Mutex<Vec<usize>>,
    panics: Mutex<Vec<usize>>,
}

struct Waits(Arc<Asked>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

impl TokenSource for Source {
    async fn fetch(&self, _: TokenRequest) -> Result<AccessToken, TokenError> {
        let nth = self.0.fetches.fetch_add(1, SeqCst);
        assert_eq!(self.0.waiting.fetch_add(1, SeqCst), 0, "two fetches at a time");
        let waits = Waits(Arc::clone(&self.0));
        yield_now().await;
        drop(waits);
        if self.0.panics.lock().unwrap().contains(&nth) {
            std::panic::resume_unwind(Box::new("the source panics"));
        }
        if self.0.fails.lock().unwrap().contains(&nth) {
            return Err(TokenError::permanent("no"));
        }
        Ok(token(nth))
    }
}

impl Source {
    fn fetches(&self) -> usize {
        self.0.fetches.load(SeqCst)
    }
}

fn token(nth: usize) -> AccessToken {
    AccessToken::new(format!("t{nth}")).unwrap().with_lifetime(Duration::from_secs(3600))
}

fn number(token: &AccessToken) -> usize {
    token.secret()[1..].parse().unwrap()
}

fn api() -> Origin {
    "https://api.example".parse().unwrap()
}

fn rejection(nth: usize) -> Rejection {
    Rejection::new(token(nth)).with_origin(api())
}

// ===== The explorer =====

fn explore(
    scheduler: impl Scheduler + 'static,
    program: impl Fn() + Send + Sync + 'static,
) -> usize {
    let mut config = Config::new();
    config.stack_size = 0x4_0000;
    Runner::new(scheduler, config).run(move || {
        fastrand::seed(0);
        explored(&program);
    })
}

/// All schedules of a program that is small enough.
fn each(program: impl Fn() + Send + Sync + 'static) {
    let most = 200_000;
    let explored = explore(DfsScheduler::new(Some(most), false), program);
    println!("{explored} schedules");
    assert!(explored > 10, "there is nothing to explore");
    assert!(explored < most, "these are not all of them");
}

/// Some schedules of any program.
fn some(program: impl Fn() + Send + Sync + 'static) {
    let schedules = std::env::var("SCHEDULES").map_or(2000, |it| it.parse().unwrap());
    explore(RandomScheduler::new(schedules), program);
}

/// A cache that holds token 0.
fn holding() -> (TokenCache, Source) {
    let source = Source::default();
    let cache = TokenCache::with_policy(source.clone(), policy(false));
    block_on(cache.get()).unwrap();
    (cache, source)
}

fn policy(keep_warm: bool) -> RefreshPolicy {
    RefreshPolicy::builder()
        .attempts(1)
        .background_interval(Duration::ZERO)
        .keep_warm(keep_warm)
        .build()
        .unwrap()
}

// ===== All schedules =====

fn grant(version: u64) -> Grant {
    let token = token(usize::try_from(version).unwrap());
    Grant { token, version, until: None, expired: None, suspect: false, watched: false }
}

#[test]
fn what_is_published_is_read_as_it_is_or_not_at_all() {
    each(|| {
        let published = Arc::new(Published::default());
        let now = Instant::now();
        published.publish(1, Some(grant(1)), now);
        let reader = Arc::clone(&published);
        let reads = thread::spawn(move || {
            let read = || reader.token().map(|(token, _)| number(&token));
            let [first, then] = [read(), read()];
            assert!(first != Some(0) && then != Some(0));
            assert!(then.is_none() || first.is_none() || first <= then, "{first:?}, {then:?}");
        });
        published.publish(2, None, now);
        assert!(published.token().is_none(), "what was taken away is not read");
        published.publish(3, Some(grant(3)), now);
        assert_eq!(published.token().map(|(token, _)| number(&token)), Some(3));
        reads.join().unwrap();
    });
}

#[test]
fn of_three_who_want_a_place_one_has_it() {
    each(|| {
        let single = Arc::new(Single::default());
        let takes = |single: Arc<Single>| move || single.take();
        let threads: Vec<_> = (0..3).map(|_| thread::spawn(takes(Arc::clone(&single)))).collect();
        let taken = threads.into_iter().map(|it| it.join().unwrap());
        assert_eq!(taken.filter(|taken| *taken).count(), 1);
    });
}

// ===== Random schedules =====

#[test]
fn two_who_ask_an_empty_cache_share_one_fetch() {
    some(|| {
        let source = Source::default();
        let cache = TokenCache::with_policy(source.clone(), policy(false));
        let other = cache.clone();
        let asks = thread::spawn(move || block_on(other.get()).unwrap());
        assert_eq!(number(&block_on(cache.get()).unwrap()), 0);
        assert_eq!(number(&asks.join().unwrap()), 0);
        assert_eq!(source.fetches(), 1);
    });
}

#[test]
fn who_reads_while_a_renewal_ends_never_goes_back_to_the_old_token() {
    some(|| {
        let (cache, source) = holding();
        let reader = cache.clone();
        let reads = thread::spawn(move || {
            let first = number(&reader.current().expect("one is always there"));
            let then = number(&reader.current().expect("one is always there"));
            assert!(first <= then, "{first}, and then {then}");
        });
        assert_eq!(number(&block_on(cache.renew(rejection(0))).unwrap()), 1);
        assert_eq!(number(&cache.current().unwrap()), 1, "a renewal that has ended is seen");
        reads.join().unwrap();
        assert_eq!(source.fetches(), 2);
    });
}

#[test]
fn who_is_dropped_takes_nothing_from_who_waits() {
    some(|| {
        let source = Source::default();
        let cache = TokenCache::with_policy(source.clone(), policy(false));
        let other = cache.clone();
        let dropped = Runtime.spawn(async move { other.get().await });
        let aborts = thread::spawn(move || dropped.abort());
        assert_eq!(number(&block_on(cache.get()).unwrap()), 0);
        aborts.join().unwrap();
        assert_eq!(source.fetches(), 1);
    });
}

#[test]
fn a_flight_that_ends_while_it_is_given_up_does_either() {
    some(|| {
        let source = Source::default();
        let cache = TokenCache::with_policy(source.clone(), policy(false));
        let rings = thread::spawn(ring);
        let outcome = block_on(cache.get());
        rings.join().unwrap();
        match (outcome, cache.current()) {
            (Ok(token), Some(current)) => assert_eq!(number(&token), number(&current)),
            (Err(_), None) => {}
            other => panic!("{other:?}"),
        }
        assert!(!cache.status().is_fetching());
    });
}

#[test]
fn rejections_of_one_token_by_many_are_one_fetch() {
    some(|| {
        let (cache, source) = holding();
        let renew =
            |cache: TokenCache| move || number(&block_on(cache.renew(rejection(0))).unwrap());
        let renewals: Vec<_> = (0..3).map(|_| thread::spawn(renew(cache.clone()))).collect();
        let asker = cache.clone();
        let asks = thread::spawn(move || number(&block_on(asker.get()).unwrap()));
        for renewal in renewals {
            assert_eq!(renewal.join().unwrap(), 1);
        }
        assert!(asks.join().unwrap() <= 1);
        assert_eq!(source.fetches(), 2);
        assert!(!cache.status().is_suspect());
    });
}

#[test]
fn there_is_one_keeper_whoever_leaves_it_and_it_hears_of_everything() {
    some(|| {
        let source = Source::default();
        let cache = TokenCache::with_policy(source.clone(), policy(false));
        let wants = |cache: TokenCache| move || cache.keep_warm();
        let threads: Vec<_> = (0..3).map(|_| thread::spawn(wants(cache.clone()))).collect();
        threads.into_iter().for_each(|it| it.join().unwrap());
        // What it waits for is now, or it has begun already.
        for _ in 0..3 {
            ring();
            block_on(yield_now());
        }
        assert!(block_on(cache.get()).is_ok());
        assert_eq!(source.fetches(), 1, "one keeper, and one flight");
    });
}

/// What a thread does with a token that it has seen.
fn act(cache: &TokenCache, seen: usize) -> Result<usize, TokenError> {
    let renewed = |token: AccessToken| {
        assert_ne!(number(&token), seen, "it was rejected");
        number(&token)
    };
    match thread_rng().gen_range(0..8) {
        0 | 1 => block_on(cache.get()).map(|token| number(&token)),
        2 => block_on(cache.renew(rejection(seen))).map(renewed),
        3 => block_on(cache.refresh()).map(|token| number(&token)),
        4 => {
            cache.reject(rejection(seen));
            Ok(seen)
        }
        5 => {
            cache.accepted(&token(seen), Some(&api()));
            Ok(seen)
        }
        6 => {
            // One who asks and is gone.
            let other = cache.clone();
            Runtime.spawn(async move { other.renew(rejection(seen)).await }).abort();
            Ok(seen)
        }
        _ => Ok(cache.current().map_or(seen, |token| number(&token))),
    }
}

#[test]
fn whatever_threads_do_a_token_that_was_seen_is_never_older_than_one_before() {
    some(|| {
        let (cache, source) = holding();
        source.0.fails.lock().unwrap().push(thread_rng().gen_range(1..8));
        source.0.panics.lock().unwrap().push(thread_rng().gen_range(1..8));
        let program = |cache: TokenCache| {
            move || {
                let mut seen = 0;
                for _ in 0..4 {
                    // An error takes nothing away.
                    let then = act(&cache, seen).unwrap_or(seen);
                    assert!(then >= seen, "{seen}, and then {then}");
                    seen = then;
                    assert!(cache.current().is_some_and(|token| number(&token) >= seen));
                }
            }
        };
        let threads: Vec<_> = (0..3).map(|_| thread::spawn(program(cache.clone()))).collect();
        threads.into_iter().for_each(|it| it.join().unwrap());
        drop(block_on(cache.get()).expect("a valid token is there"));
    });
}

#[test]
fn whenever_time_passes_nobody_waits_for_ever_and_the_next_who_asks_gets_a_token() {
    some(|| {
        let source = Source::default();
        let cache = TokenCache::with_policy(source.clone(), policy(thread_rng().r#gen()));
        let asks = |cache: TokenCache| {
            move || {
                let first = block_on(cache.get()).map_or(0, |token| number(&token));
                let then = block_on(cache.renew(rejection(first)));
                assert!(then.is_err() || then.is_ok_and(|token| number(&token) != first));
            }
        };
        let threads: Vec<_> = (0..2).map(|_| thread::spawn(asks(cache.clone()))).collect();
        let rings = thread::spawn(|| {
            for _ in 0..3 {
                thread::yield_now();
                ring();
            }
        });
        threads.into_iter().for_each(|it| it.join().unwrap());
        rings.join().unwrap();
        match block_on(cache.get()) {
            Ok(_) => {}
            // Its fetch timed out, and the source cools down.
            Err(error) => assert!(cache.current().is_none(), "{error}"),
        }
    });
}
