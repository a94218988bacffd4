//! Promises 1 to 6.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use futures_util::{FutureExt, future::join_all};
use tokio::{runtime, task::JoinSet, time::Instant};
use tower::Layer;
use tower_bearer::{
    AccessToken, CacheError, Reason, Rejection, TokenCache, TokenError, TokenRequest, TokenSource,
    from_fn,
};

use crate::support::*;

// ===== 1 =====

#[tokio::test(start_paused = true)]
async fn n_callers_and_an_empty_cache_cause_one_fetch() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    let callers: Vec<_> = (0..1000).map(|_| ask(&cache)).collect();
    let call = desk.next().await;
    assert_eq!(call.request.reason(), Reason::First);
    desk.assert_idle().await;
    call.answer("a");
    for token in join_all(callers).await {
        assert_eq!(token.unwrap().unwrap().secret(), "a");
    }
    desk.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_requests_without_a_token_cause_one_fetch() {
    let (source, mut desk) = manual();
    let api = Api::new();
    let stack = layer(&cache(source)).layer(api.clone());
    let mut requests = JoinSet::new();
    for _ in 0..10_000 {
        let stack = stack.clone();
        requests.spawn(async move { send(&stack, get("/")).await.unwrap().status() });
    }
    let call = desk.next().await;
    desk.assert_idle().await;
    assert_eq!(api.tokens().len(), 0, "all wait");
    call.answer("a");
    assert!(requests.join_all().await.into_iter().all(|status| status == 200));
    desk.assert_idle().await;
    assert_eq!(api.tokens(), vec!["a"; 10_000]);
}

#[tokio::test(start_paused = true)]
async fn n_requests_in_flight_whose_token_is_rejected_cause_one_fetch_and_one_replay_each() {
    let mint = Mint::default();
    let api = Api::new();
    let stack = layer(&cache(mint.clone())).layer(api.clone());
    send(&stack, get("/warm")).await.unwrap();

    api.close_gate();
    let mut calls = JoinSet::new();
    for n in 0..1000 {
        let stack = stack.clone();
        calls.spawn(async move { send(&stack, get(&format!("/{n}"))).await.unwrap().status() });
    }
    settle().await;
    assert_eq!(api.waiting(), 1000);
    api.revoke("t1");
    api.open_gate();
    assert!(calls.join_all().await.into_iter().all(|status| status == 200));

    assert_eq!(mint.fetches(), 2);
    let count = |token: &str| api.tokens().iter().filter(|sent| *sent == token).count();
    assert_eq!((count("t1"), count("t2")), (1001, 1000));
}

// ===== 2 =====

#[tokio::test(start_paused = true)]
async fn a_rejection_of_an_old_token_arriving_after_a_newer_one_is_here_fetches_nothing() {
    let mint = Mint::default();
    let api = Api::new();
    let cache = cache(mint.clone());
    let stack = layer(&cache).layer(api.clone());
    send(&stack, get("/warm")).await.unwrap();

    // A request with the old token is held until the newer one is here.
    api.close_gate();
    let late = tokio::spawn({
        let stack = stack.clone();
        async move { send(&stack, get("/late")).await.unwrap().status() }
    });
    settle().await;
    cache.renew(Rejection::new(token("t1"))).await.unwrap();
    api.revoke("t1");
    api.open_gate();
    assert_eq!(late.await.unwrap(), 200);
    assert_eq!(api.tokens(), ["t1", "t1", "t2"]);
    assert_eq!(mint.fetches(), 2);
}

// ===== 3 =====

#[tokio::test(start_paused = true)]
async fn the_caller_that_started_a_flight_may_be_dropped_and_the_others_get_its_token() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    let leader = ask(&cache);
    let call = desk.next().await;
    let follower = ask(&cache);
    settle().await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    assert!(!call.is_abandoned());
    call.answer("a");
    assert_eq!(follower.await.unwrap().unwrap().secret(), "a");
    desk.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_flight_whose_callers_are_all_gone_still_ends_and_publishes_its_token() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    assert!(cache.get().now_or_never().is_none());
    let call = desk.next().await;
    call.answer("a");
    settle().await;
    assert_eq!(cache.current().unwrap().secret(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_of_one_flight_that_is_dropped_late_disturbs_no_later_flight() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    let mut finished = Box::pin(cache.get());
    assert!(futures_util::poll!(&mut finished).is_pending());
    desk.next().await.reply(Ok(token("a").with_lifetime(std::time::Duration::ZERO)));
    settle().await;

    let second = ask(&cache);
    let call = desk.next().await;
    drop(finished);
    settle().await;
    call.answer("b");
    assert_eq!(second.await.unwrap().unwrap().secret(), "b");
}

// ===== 4 =====

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_is_an_error_to_the_waiters_and_the_next_caller_starts_a_new_flight() {
    let calls = Arc::new(AtomicUsize::new(0));
    let cache = cache(from_fn({
        let calls = Arc::clone(&calls);
        move |_| {
            let nth = calls.fetch_add(1, SeqCst);
            async move {
                tokio::task::yield_now().await;
                assert!(nth > 0, "hush: the first one panics");
                Ok(token("a"))
            }
        }
    }));
    for error in join_all((0..5).map(|_| cache.get())).await {
        let error = error.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&CacheError::SourcePanicked));
        assert!(!format!("{error} {error:?}").contains("hush"));
    }
    assert_eq!(cache.get().await.unwrap().secret(), "a");
    assert_eq!(calls.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_before_its_first_await_is_an_error_too() {
    struct Hasty {
        is_calm: bool,
    }
    impl TokenSource for Hasty {
        fn fetch(
            &self,
            _: TokenRequest,
        ) -> impl Future<Output = Result<AccessToken, TokenError>> + Send {
            assert!(self.is_calm, "at once");
            std::future::ready(Ok(token("a")))
        }
    }
    let error = cache(Hasty { is_calm: false }).get().await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&CacheError::SourcePanicked));
}

#[test]
fn a_runtime_that_shuts_down_under_a_flight_is_an_error_to_the_waiters() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    let doomed =
        runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let call = doomed.block_on(async {
        assert!(cache.get().now_or_never().is_none());
        desk.next().await
    });
    a_runtime().block_on(async {
        let waiter = ask(&cache);
        settle().await;
        doomed.shutdown_background();
        let error = waiter.await.unwrap().unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&CacheError::FlightLost));
        drop(call);

        let next = ask(&cache);
        desk.next().await.answer("a");
        assert_eq!(next.await.unwrap().unwrap().secret(), "a");
    });
}

#[test]
fn waiters_on_a_runtime_that_nobody_drives_stop_a_second_after_the_fetch_timeout() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    let stalled = a_runtime();
    let lost = stalled.block_on(async {
        assert!(cache.get().now_or_never().is_none());
        desk.next().await
    });

    paused().block_on(async {
        let began = Instant::now();
        let error = cache.get().await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&CacheError::FlightLost));
        let waited = began.elapsed();
        assert!(waited > 30 * S && waited <= 31 * S, "{waited:?}");
        let status = cache.status();
        assert!(!status.is_fetching(), "it is given up for everybody");
        assert!(status.last_error().is_some());

        let next = ask(&cache);
        desk.next().await.answer("b");
        assert_eq!(next.await.unwrap().unwrap().secret(), "b");
    });

    // The lost flight comes back, and publishes nothing.
    stalled.block_on(async {
        lost.answer("a");
        settle().await;
    });
    assert_eq!(cache.current().unwrap().secret(), "b");
}

#[test]
fn no_runtime_at_all_is_an_error_and_no_panic() {
    let mint = Mint::default();
    let cache = cache(mint.clone());
    let error = cache.get().now_or_never().expect("at once").unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&CacheError::NoRuntime));
    assert!(error.to_string().contains("#[tokio::main]"), "{error}");
    cache.reject(Rejection::new(token("a")));

    let timeless = runtime::Builder::new_current_thread().build().unwrap();
    let error = timeless.block_on(cache.get()).unwrap_err();
    assert!(error.to_string().contains("enable_all"), "{error}");

    assert_eq!(a_runtime().block_on(cache.get()).unwrap().secret(), "t1");
    assert_eq!(mint.fetches(), 1);
}

#[test]
fn a_usable_token_needs_no_runtime() {
    let cache = cache(Mint::default());
    // The runtime is gone afterwards.
    a_runtime().block_on(cache.get()).unwrap();
    assert_eq!(cache.get().now_or_never().unwrap().unwrap().secret(), "t1");
}

// ===== 5 =====

#[tokio::test(start_paused = true)]
async fn a_renewal_joins_the_flight_under_way() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    desk.fill(&cache, token("a").with_lifetime(101 * S)).await;
    tokio::time::advance(85 * S).await;
    assert_eq!(cache.get().await.unwrap().secret(), "a");
    let due = desk.next().await;
    assert_eq!(due.request.reason(), Reason::Due);

    let renewal = renew(&cache, Rejection::new(token("a")));
    desk.assert_idle().await;
    due.answer("b");
    assert_eq!(renewal.await.unwrap().unwrap().secret(), "b");
    desk.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_asks_for_another_flight_only_if_that_one_brought_the_rejected_token() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    desk.fill(&cache, token("a").with_lifetime(101 * S)).await;
    tokio::time::advance(85 * S).await;
    cache.get().await.unwrap();
    let due = desk.next().await;

    let renewals: Vec<_> = (0..10).map(|_| renew(&cache, Rejection::new(token("a")))).collect();
    settle().await;
    due.reply(Ok(token("a").with_lifetime(101 * S)));
    let another = desk.next().await;
    assert_eq!(another.request.reason(), Reason::Rejected);
    assert_eq!(another.request.rejected().unwrap().secret(), "a");
    desk.assert_idle().await;
    another.answer("b");
    for renewal in renewals {
        assert_eq!(renewal.await.unwrap().unwrap().secret(), "b");
    }
    desk.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn one_flight_runs_at_a_time_whatever_callers_do() {
    let flying = Arc::new(AtomicUsize::new(0));
    let overlapped = Arc::new(AtomicBool::new(false));
    let cache = cache(from_fn({
        let (flying, overlapped) = (Arc::clone(&flying), Arc::clone(&overlapped));
        let minted = AtomicUsize::new(0);
        move |_| {
            let (flying, overlapped) = (Arc::clone(&flying), Arc::clone(&overlapped));
            let nth = minted.fetch_add(1, SeqCst);
            async move {
                if flying.fetch_add(1, SeqCst) > 0 {
                    overlapped.store(true, SeqCst);
                }
                tokio::time::sleep(S / 10).await;
                flying.fetch_sub(1, SeqCst);
                Ok(token(&format!("t{nth}")).with_lifetime(3 * S))
            }
        }
    }));
    let seed = 0x7065_6172;
    println!("seed: {seed:#x}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut crowd = JoinSet::new();
    for _ in 0..50 {
        let (cache, mut random) = (cache.clone(), random.fork());
        crowd.spawn(async move {
            for _ in 0..40 {
                if let Ok(token) = cache.get().await {
                    match random.u8(..4) {
                        0 => drop(cache.renew(Rejection::new(token)).await),
                        1 => cache.reject(Rejection::new(token)),
                        2 => cache.accepted(&token, None),
                        _ => {}
                    }
                }
                tokio::time::sleep(S.mul_f64(random.f64())).await;
            }
        });
    }
    crowd.join_all().await;
    assert!(cache.status().flights() > 10, "{}", cache.status().flights());
    assert!(!overlapped.load(SeqCst));
}

// ===== 6 =====

#[test]
fn no_lock_is_held_while_user_code_runs() {
    bounded(|| paused().block_on(source_and_error_look_at_the_cache()));
}

async fn source_and_error_look_at_the_cache() {
    let slot = Arc::new(std::sync::OnceLock::<TokenCache>::new());
    let dropped = Arc::new(AtomicUsize::new(0));
    let cache = cache(from_fn({
        let (slot, dropped) = (Arc::clone(&slot), Arc::clone(&dropped));
        move |_| {
            let (cache, dropped) = (slot.get().unwrap().clone(), Arc::clone(&dropped));
            assert!(cache.current().is_none());
            assert!(cache.status().is_fetching());
            async move {
                cache.accepted(&token("x"), None);
                Err(TokenError::transient(Nosy::new(&cache, &dropped)))
            }
        }
    }));
    slot.set(cache.clone()).ok().unwrap();
    for _ in 0..3 {
        // Each failure replaces the last error, which looks at the cache when it is dropped.
        let error = cache.get().await.unwrap_err();
        assert!(error.downcast_ref::<Nosy>().is_some());
        drop(error);
        tokio::time::advance(60 * S).await;
    }
    assert_eq!(dropped.load(SeqCst), 2);
}
