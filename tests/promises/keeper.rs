//! The task that keeps a token warm: one for each cache.

use tokio::{runtime, time::Instant};
use tower_bearer::TokenCache;

use super::support::*;

fn warm(mint: &Mint) -> TokenCache {
    TokenCache::with_policy(mint.clone(), exact().keep_warm(true).build().unwrap())
}

fn tasks() -> usize {
    runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn there_is_one_keeper_however_many_flights_there_are() {
    let mint = Mint::living(101 * S);
    let cache = warm(&mint);
    let before = tasks();
    cache.get().await.unwrap();
    for _ in 0..10 {
        tokio::time::sleep(81 * S).await;
        cache.get().await.unwrap();
        settle().await;
        assert_eq!(tasks(), before + 1);
    }
    assert!(mint.fetches() >= 10);
}

#[test]
fn the_next_runtime_gets_a_keeper_when_the_first_one_is_gone() {
    let mint = Mint::living(101 * S);
    let cache = warm(&mint);
    for nth in 0..2 {
        let mut runtime = runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
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
async fn a_token_is_due_from_the_very_moment_that_the_status_says() {
    let mint = Mint::living(101 * S);
    let cache = cache(mint.clone());
    cache.get().await.unwrap();
    let due = cache.status().due().expect("it has a lifetime");
    tokio::time::sleep_until(due - S / 1000).await;
    cache.get().await.unwrap();
    settle().await;
    assert_eq!(mint.fetches(), 1);
    tokio::time::advance(due - Instant::now()).await;
    cache.get().await.unwrap();
    settle().await;
    assert_eq!(mint.fetches(), 2);
}
