//! Promises 6, 13, 14, 16 and 18 against sources that take their time, or that look at the cache
//! from where nobody expects it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{FutureExt, StreamExt};
use tokio::{
    runtime,
    time::{Instant, advance},
};
use tower_bearer::{
    AccessToken, CacheError, Rejection, TokenCache, TokenError, TokenRequest, TokenSource,
};

use crate::support::*;

// ===== 6 =====

/// An error that asks the cache when it is dropped.
struct Nosy(TokenCache, Arc<AtomicUsize>);

impl Drop for Nosy {
    fn drop(&mut self) {
        assert!(format!("{:?}", self.0.status()).contains("Status"));
        drop(self.0.current());
        self.1.fetch_add(1, SeqCst);
    }
}

impl fmt::Debug for Nosy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nosy")
    }
}

impl fmt::Display for Nosy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nosy")
    }
}

impl std::error::Error for Nosy {}

/// With a lock held the work would wait for itself for ever: another thread keeps the time.
fn bounded(work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    is_done.recv_timeout(30 * S).expect("a lock is held while an error is dropped");
}

fn paused() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

#[test]
fn an_error_that_asks_the_cache_when_it_is_dropped_may_be_the_last_error_and_a_waiters() {
    bounded(|| {
        paused().block_on(async {
            let (source, mut desk) = manual();
            let (cache, dropped) = (cache(source), Arc::new(AtomicUsize::new(0)));
            let nosy = || TokenError::transient(Nosy(cache.clone(), Arc::clone(&dropped)));
            let mut changes = cache.subscribe();
            for _ in 0..2 {
                let waiter = tokio::spawn({
                    let cache = cache.clone();
                    async move { drop(cache.get().await.unwrap_err()) }
                });
                desk.next().await.reply(Err(nosy()));
                waiter.await.unwrap();
                drop(changes.next().await);
                advance(60 * S).await;
            }
            assert_eq!(dropped.load(SeqCst), 1, "the second one took the place of the first");
            let waiter = tokio::spawn({
                let cache = cache.clone();
                async move { cache.get().await.unwrap() }
            });
            desk.next().await.answer("a");
            waiter.await.unwrap();
            settle().await;
            drop(changes.next().await);
            // The end of a flight holds its outcome until the next one begins.
            cache.reject(Rejection::new(token("a")));
            desk.next().await.answer("b");
            settle().await;
            assert_eq!(dropped.load(SeqCst), 2);
        });
    });
}

#[test]
fn an_error_that_asks_the_cache_when_it_is_dropped_may_come_from_a_flight_that_was_given_up() {
    bounded(|| {
        let (source, mut desk) = manual();
        let (cache, dropped) = (cache(source), Arc::new(AtomicUsize::new(0)));
        let stalled = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let call = stalled.block_on(async {
            assert!(cache.get().now_or_never().is_none());
            desk.next().await
        });
        paused().block_on(async {
            cache.get().await.unwrap_err();
        });
        let nosy = TokenError::transient(Nosy(cache.clone(), Arc::clone(&dropped)));
        stalled.block_on(async {
            call.reply(Err(nosy));
            settle().await;
        });
        assert_eq!(dropped.load(SeqCst), 1);
        assert!(!cache.status().is_fetching());
    });
}

// ===== 13 =====

#[tokio::test(start_paused = true)]
async fn a_pause_that_would_end_after_the_flights_end_is_not_waited_for() {
    let (source, mut desk) = manual();
    let policy = exact().attempts(3).fetch_timeout(3 * S).build().unwrap();
    let cache = TokenCache::with_policy(source, policy);
    let began = Instant::now();
    let waiter = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get().await.unwrap_err() }
    });
    let call = desk.next().await;
    advance(2 * S).await;
    call.reply(Err(busy().with_retry_after(2 * S)));
    assert_eq!(waiter.await.unwrap().to_string(), "busy");
    assert_eq!(began.elapsed(), 2 * S);
    desk.assert_idle().await;
}

/// A source that has been refused, and may have recovered when the test says so.
struct Mended<R>(R);

impl<R, Fut> TokenSource for Mended<R>
where
    R: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = bool> + Send,
{
    async fn fetch(&self, _: TokenRequest) -> Result<AccessToken, TokenError> {
        Err(invalid_client())
    }

    async fn recovered(&self) -> bool {
        (self.0)().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_never_says_whether_it_has_recovered_is_not_asked_for_ever() {
    struct Asked(Arc<AtomicUsize>);
    impl Drop for Asked {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let most = Arc::clone(&asked);
    let cache = cache(Mended(move || {
        most.fetch_add(1, SeqCst);
        let asked = Asked(Arc::clone(&most));
        async move {
            let _asked = asked;
            std::future::pending().await
        }
    }));
    for _ in 0..25 {
        cache.get().await.unwrap_err();
        settle().await;
        assert!(asked.load(SeqCst) <= 11, "{asked:?}");
        advance(S).await;
    }
    advance(11 * S).await;
    settle().await;
    assert_eq!(asked.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_late_recovery_ends_no_cooldown_that_began_after_the_question() {
    let (says, said) = tokio::sync::watch::channel(false);
    let cache = cache(Mended(move || {
        let mut said = said.clone();
        async move { said.wait_for(|said| *said).await.is_ok() }
    }));
    cache.get().await.unwrap_err();
    cache.get().await.unwrap_err();
    settle().await;
    // The question is asked for ten seconds; the cooldown is over when it is answered.
    cache.reject(Rejection::new(token("x")));
    advance(9 * S).await;
    cache.get().await.unwrap_err();
    settle().await;
    assert_eq!(cache.status().flights(), 1);
    says.send(true).unwrap();
    settle().await;
    assert!(cache.status().cooldown_until().is_none(), "it has recovered");
    cache.get().await.unwrap_err();
    let until = cache.status().cooldown_until().unwrap();
    settle().await;
    assert_eq!(cache.status().cooldown_until(), Some(until), "nobody has asked again");
    assert_eq!(until - Instant::now(), 60 * S);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_sees_that_the_source_has_recovered() {
    let cache = cache(Mended(|| async { true }));
    cache.get().await.unwrap_err();
    let mut changes = cache.subscribe();
    assert!(changes.next().await.unwrap().cooldown_until().is_some());
    cache.get().await.unwrap_err();
    settle().await;
    let recovered = changes.next().now_or_never().expect("nobody is told").unwrap();
    assert!(recovered.cooldown_until().is_none());
}

// ===== 14 =====

#[tokio::test(start_paused = true)]
async fn a_recovery_does_not_end_the_pause_that_the_service_has_asked_for() {
    struct Busy;
    impl TokenSource for Busy {
        async fn fetch(&self, _: TokenRequest) -> Result<AccessToken, TokenError> {
            Err(busy().with_retry_after(120 * S))
        }
        async fn recovered(&self) -> bool {
            true
        }
    }
    let cache = cache(Busy);
    for _ in 0..119 {
        cache.get().await.unwrap_err();
        settle().await;
        advance(S).await;
    }
    assert_eq!(cache.status().flights(), 1);
    advance(S).await;
    cache.get().await.unwrap_err();
    assert_eq!(cache.status().flights(), 2);
}

// ===== The policy and the source =====

#[tokio::test(start_paused = true)]
async fn the_users_attempt_timeout_wins_over_what_the_source_suggests() {
    struct Suggests(Duration);
    impl TokenSource for Suggests {
        async fn fetch(&self, _: TokenRequest) -> Result<AccessToken, TokenError> {
            std::future::pending().await
        }
        fn attempt_timeout(&self) -> Option<Duration> {
            Some(self.0)
        }
    }
    for suggested in [S, 120 * S] {
        let policy = exact().attempt_timeout(3 * S).build().unwrap();
        let cache = TokenCache::with_policy(Suggests(suggested), policy);
        let began = Instant::now();
        let error = cache.get().await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&CacheError::FetchTimeout(3 * S)));
        assert_eq!(began.elapsed(), 3 * S, "{suggested:?} was suggested");
    }
}
