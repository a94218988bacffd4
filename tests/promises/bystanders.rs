//! Promises 6, 13 and 14 against sources that take long, and errors that look at the cache.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, advance};
use tower_bearer::{
    AccessToken, CacheError, Rejection, TokenCache, TokenError, TokenRequest, TokenSource,
};

use crate::support::*;

// ===== 6 =====

#[test]
fn an_error_that_asks_the_cache_when_it_is_dropped_may_be_the_last_error_and_a_waiters() {
    bounded(|| {
        paused().block_on(async {
            let (source, mut desk) = manual();
            let (cache, dropped) = (cache(source), Arc::new(AtomicUsize::new(0)));
            let nosy = || TokenError::transient(Nosy::new(&cache, &dropped));
            let mut changes = cache.subscribe();
            for _ in 0..2 {
                let waiter = ask(&cache);
                desk.next().await.reply(Err(nosy()));
                drop(waiter.await.unwrap().unwrap_err());
                drop(changes.next().await);
                advance(60 * S).await;
            }
            assert_eq!(dropped.load(SeqCst), 1, "the second one took the place of the first");
            let waiter = ask(&cache);
            desk.next().await.answer("a");
            waiter.await.unwrap().unwrap();
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
        let stalled = a_runtime();
        let call = stalled.block_on(async {
            assert!(cache.get().now_or_never().is_none());
            desk.next().await
        });
        paused().block_on(async {
            cache.get().await.unwrap_err();
        });
        let nosy = TokenError::transient(Nosy::new(&cache, &dropped));
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
    let waiter = ask(&cache);
    let call = desk.next().await;
    advance(2 * S).await;
    call.reply(Err(busy().with_retry_after(2 * S)));
    assert_eq!(waiter.await.unwrap().unwrap_err().to_string(), "busy");
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
    let mint = Mint::default();
    mint.fail_with(busy().with_retry_after(120 * S));
    mint.recover_after(0);
    let cache = cache(mint);
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
    for suggested in [S, 120 * S] {
        let policy = exact().attempt_timeout(3 * S).build().unwrap();
        let mint = Mint::taking(3600 * S);
        mint.suggest_timeout(suggested);
        let cache = TokenCache::with_policy(mint, policy);
        let began = Instant::now();
        let error = cache.get().await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&CacheError::FetchTimeout(3 * S)));
        assert_eq!(began.elapsed(), 3 * S, "{suggested:?} was suggested");
    }
}
