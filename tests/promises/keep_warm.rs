//! Promise 9, `keep_warm`: a token without traffic, and one task that keeps it, on whichever runtime.

use std::time::Duration;

use tokio::{
    runtime::Handle,
    time::{Instant, advance, sleep},
};
use tower::Layer;
use tower_bearer::{Rejection, TokenCache};

use crate::support::*;

fn warm(mint: &Mint) -> TokenCache {
    TokenCache::with_policy(mint.clone(), exact().keep_warm(true).build().unwrap())
}

/// Whether the token is refreshed although no caller asks for it.
async fn is_kept_warm(cache: &TokenCache) -> bool {
    let before = cache.status().flights();
    sleep(300 * S).await;
    cache.status().flights() >= before + 3 && cache.current().is_some()
}

#[tokio::test(start_paused = true)]
async fn keeping_warm_outlives_a_rejection_from_a_thread_without_a_runtime() {
    let cache = warm(&Mint::living(101 * S));
    let first = cache.get().await.unwrap();
    std::thread::scope(|scope| scope.spawn(|| cache.reject(Rejection::new(first))).join().unwrap());
    assert!(is_kept_warm(&cache).await);
}

#[tokio::test(start_paused = true)]
async fn keeping_warm_outlives_a_renewal_on_a_runtime_that_is_then_dropped() {
    let cache = warm(&Mint::living(101 * S));
    let first = cache.get().await.unwrap();
    std::thread::scope(|scope| {
        let renew = || a_runtime().block_on(cache.renew(Rejection::new(first))).unwrap();
        scope.spawn(renew).join().unwrap();
    });
    assert!(is_kept_warm(&cache).await);
}

#[tokio::test(start_paused = true)]
async fn after_a_first_flight_on_a_runtime_that_is_dropped_the_next_caller_leaves_a_keeper() {
    // Made without a runtime, so that the first flight's is the first one.
    let cache = std::thread::spawn(|| warm(&Mint::living(101 * S))).join().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| a_runtime().block_on(cache.get()).unwrap()).join().unwrap();
    });
    let stack = layer(&cache).layer(Api::new());
    send(&stack, get("/")).await.unwrap();
    assert_eq!(cache.status().flights(), 1, "the token was there");
    assert!(is_kept_warm(&cache).await);
}

#[tokio::test(start_paused = true)]
async fn there_is_one_keeper_however_many_flights_there_were() {
    let mint = Mint::living(101 * S);
    let before = Handle::current().metrics().num_alive_tasks();
    let cache = warm(&mint);
    for _ in 0..50 {
        let current = cache.get().await.unwrap();
        cache.accepted(&current, None);
        advance(10 * S).await;
        cache.renew(Rejection::new(current)).await.unwrap();
        settle().await;
    }
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before + 1);
    drop(cache);
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn tokens_that_live_no_time_are_fetched_once_a_second_whatever_the_policy_says() {
    let mint = Mint::living(Duration::ZERO);
    let policy = exact().keep_warm(true).background_interval(Duration::ZERO).build().unwrap();
    let cache = TokenCache::with_policy(mint.clone(), policy);
    cache.get().await.unwrap();
    sleep(100 * S).await;
    assert!((50..=102).contains(&mint.fetches()), "{}", mint.fetches());
}

#[tokio::test(start_paused = true)]
async fn the_span_of_a_fetch_is_closed_when_the_flight_ends() {
    let log = Log::start();
    let mint = Mint::living(101 * S);
    let cache = warm(&mint);
    cache.get().await.unwrap();
    settle().await;
    sleep(200 * S).await;
    settle().await;
    let log = log.text();
    let closed = log.lines().filter(|line| line.contains("fetch{") && line.contains("close"));
    assert_eq!((closed.count(), mint.fetches()), (3, 3), "{log}");
    drop(cache);
}

#[tokio::test(start_paused = true)]
async fn there_is_one_keeper_however_many_refreshes_there_were() {
    let mint = Mint::living(101 * S);
    let before = Handle::current().metrics().num_alive_tasks();
    let cache = warm(&mint);
    cache.get().await.unwrap();
    for _ in 0..10 {
        sleep(81 * S).await;
        cache.get().await.unwrap();
        settle().await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), before + 1);
    }
    assert!(mint.fetches() >= 10);
}

#[test]
fn the_next_runtime_gets_a_keeper_when_the_first_one_is_gone() {
    let mint = Mint::living(101 * S);
    let cache = warm(&mint);
    for nth in 0..2 {
        let runtime = paused();
        let before = mint.fetches();
        runtime.block_on(async {
            // Each runtime's clock begins now: the token of the one before is old only then.
            tokio::time::advance(nth * 10_000 * S).await;
            cache.get().await.unwrap();
            tokio::time::sleep(1000 * S).await;
        });
        assert!(mint.fetches() - before > 10, "kept warm");
        drop(runtime);
    }
}

#[tokio::test(start_paused = true)]
async fn a_keeper_with_nothing_to_wait_for_sleeps() {
    let mint = Mint::default();
    let cache = warm(&mint);
    cache.get().await.unwrap();
    let start = Instant::now();
    // Time goes on by itself only while every task sleeps.
    tokio::time::sleep(100_000 * S).await;
    assert!(start.elapsed() >= 100_000 * S);
    assert_eq!((mint.fetches(), cache.status().flights(), cache.status().failures()), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_there_before_anybody_asks_and_after_each_failure_without_traffic() {
    let mint = Mint::living(101 * S);
    mint.fail_with(busy());
    let cache = warm(&mint);
    sleep(31 * S).await;
    assert_eq!(cache.status().flights(), 6, "at 0, 1, 3, 7, 15 and 30 s");
    assert!(!cache.status().has_token());
    mint.fail_with(None);
    sleep(15 * S).await;
    assert!(cache.status().has_token());
    assert!(is_kept_warm(&cache).await);
}

#[test]
fn without_a_runtime_it_begins_as_soon_as_its_status_is_looked_at_on_one() {
    let looks: [fn(&TokenCache); 2] =
        [|cache| assert!(!cache.status().has_token()), |cache| drop(cache.subscribe())];
    for look in looks {
        let mint = Mint::living(101 * S);
        let cache = warm(&mint);
        look(&cache);
        assert_eq!(format!("{cache:?}").matches("has_token: false").count(), 1);
        let runtime = paused();
        runtime.block_on(async {
            sleep(10 * S).await;
            let _shown = format!("{cache:?}");
            sleep(10 * S).await;
            assert_eq!(mint.fetches(), 0, "to be shown is not to be asked");
            look(&cache);
            sleep(S).await;
            assert_eq!(mint.fetches(), 1);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_token_is_fetched_through_cooldowns_and_no_second_one() {
    let mint = Mint::living(101 * S);
    mint.fail_with(busy());
    let cache = cache(mint.clone());
    let before = Handle::current().metrics().num_alive_tasks();
    cache.warm_up();
    cache.warm_up();
    sleep(4 * S).await;
    assert_eq!(mint.fetches(), 3, "at 0, 1 and 3 s");
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before + 1, "one keeper");
    mint.fail_with(None);
    sleep(4 * S).await;
    assert!(cache.current().is_some());
    sleep(1000 * S).await;
    assert!(cache.current().is_none(), "it has expired");
    assert_eq!(mint.fetches(), 4);

    // The keeper is asleep, and hears of it.
    cache.warm_up();
    sleep(S / 100).await;
    assert!(cache.current().is_some());
    cache.warm_up();
    sleep(S / 100).await;
    assert_eq!(mint.fetches(), 5, "there is one");
    drop(cache);
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before);
}

#[test]
fn a_first_token_that_was_wanted_without_a_runtime_is_fetched_on_the_next_one() {
    let mint = Mint::living(101 * S);
    let cache = cache(mint.clone());
    cache.warm_up();
    paused().block_on(async {
        assert!(!cache.status().has_token());
        sleep(S / 100).await;
        assert!(cache.status().has_token());
    });
}

#[tokio::test(start_paused = true)]
async fn keep_warm_starts_with_its_call_and_the_cache_has_its_name_by_then() {
    let log = Log::start();
    let mint = Mint::living(101 * S);
    let cache = cache(mint.clone()).named("billing");
    sleep(10 * S).await;
    assert_eq!(mint.fetches(), 0);
    cache.keep_warm();
    sleep(S / 100).await;
    assert_eq!(mint.fetches(), 1);
    assert!(is_kept_warm(&cache).await);
    cache.warm_up();
    assert!(is_kept_warm(&cache).await, "that takes nothing back");
    assert!(!log.text().contains("default"));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_was_repaired_is_fetched_from_before_its_cooldown_ends_without_traffic() {
    let mint = Mint::default();
    mint.fail_with(invalid_client());
    mint.recover_after(5);
    let cache = cache(mint.clone());
    cache.keep_warm();
    sleep(S / 100).await;
    mint.fail_with(None);
    sleep(4 * S).await;
    assert!(cache.current().is_none(), "it has not noticed yet");
    sleep(3 * S).await;
    assert!(cache.current().is_some(), "a cooldown of 30 s was cut short");
    assert_eq!((mint.fetches(), mint.recovery_checks()), (2, 6));
}
