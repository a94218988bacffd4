//! A refresh token that each exchange replaces: none is lost, none is sent twice, and the hook gets
//! them in order, even if a hook is slow or a fetch is given up.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep, timeout},
};
use tower_bearer::{
    AccessToken, Reason, RefreshPolicy, TokenCache, TokenError, TokenRequest,
    oauth2::{EndpointErrorKind as Kind, TokenEndpoint, TokenEndpointBuilder},
};
use zeroize::Zeroizing;

use super::support::{self, Scripted, Step, answer, client, fetch, kind};
use crate::log::Log;

const S: Duration = Duration::from_secs(1);

/// The answer of one exchange: `at-1` with `rt-1`, and so on.
fn body(at: usize) -> String {
    format!(r#"{{"access_token":"at-{at}","refresh_token":"rt-{at}","expires_in":100}}"#)
}

fn slow(time: Duration, at: usize) -> Step {
    support::slow(time, answer(200, body(at)))
}

/// A service that rotates this many times.
fn rotating(times: usize) -> (TokenEndpointBuilder, Scripted) {
    refreshing((1..=times).map(|at| answer(200, body(at))))
}

fn refreshing(steps: impl IntoIterator<Item = Step>) -> (TokenEndpointBuilder, Scripted) {
    let service = Scripted::new(steps);
    (client().refresh_token("rt-0").transport(service.clone()), service)
}

/// The refresh tokens that were sent.
fn exchanged(service: &Scripted) -> Vec<String> {
    let bodies = service.bodies();
    bodies.iter().map(|body| body.rsplit('=').next().unwrap().to_owned()).collect()
}

fn chain(numbers: std::ops::RangeInclusive<usize>) -> Vec<String> {
    numbers.map(|at| format!("rt-{at}")).collect()
}

async fn after(
    endpoint: &TokenEndpoint,
    previous: &AccessToken,
) -> Result<AccessToken, TokenError> {
    endpoint.fetch(TokenRequest::new(Reason::Due).with_previous(previous.clone())).await
}

/// A hook that takes this time for each token, and what it has stored.
fn storing(
    builder: TokenEndpointBuilder,
    time: impl Fn(&str) -> Duration + Send + Sync + 'static,
) -> (TokenEndpoint, Arc<Mutex<Vec<String>>>) {
    let stored = Arc::new(Mutex::new(Vec::new()));
    let store = Arc::clone(&stored);
    let hook = move |token: Zeroizing<String>| {
        let (store, time) = (Arc::clone(&store), time(&token));
        async move {
            sleep(time).await;
            store.lock().unwrap().push(token.to_string());
        }
    };
    (builder.on_new_refresh_token(hook).build().unwrap(), stored)
}

// ===== The hook =====

#[tokio::test(start_paused = true)]
async fn a_hook_that_hangs_delays_neither_requests_nor_refreshes_and_is_logged_once() {
    let _log = Log::from_level(tracing::Level::INFO);
    let (builder, service) = rotating(20);
    let builder = builder.name("orders").on_new_refresh_token(|_| pending());
    let endpoint = builder.build().unwrap();
    let begin = Instant::now();
    let mut token = fetch(&endpoint).await.unwrap();
    for _ in 1..10 {
        token = after(&endpoint, &token).await.unwrap();
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert!(Log::lines().is_empty(), "{:?}", Log::lines());
    for _ in 10..20 {
        sleep(60 * S).await;
        token = after(&endpoint, &token).await.unwrap();
    }
    assert_eq!(exchanged(&service), chain(0..=19));
    let lines = Log::lines();
    if !cfg!(feature = "tracing") {
        return;
    }
    assert!(lines.len() == 1 && lines[0].contains("hook for new refresh tokens"), "{lines:?}");
    assert!(lines[0].contains("source=\"orders\""), "{lines:?}");
    assert!(lines[0].contains("WARN tower_bearer: ") && !lines[0].contains("rt-"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn each_hook_that_hangs_is_logged() {
    let _log = Log::from_level(tracing::Level::INFO);
    let (builder, _) = rotating(3);
    let takes = |token: &str| if token == "rt-2" { S } else { 60 * S };
    let (endpoint, stored) = storing(builder, takes);
    for _ in 0..3 {
        fetch(&endpoint).await.unwrap();
    }
    endpoint.refresh_tokens_stored().await;
    assert_eq!(*stored.lock().unwrap(), chain(1..=3));
    if !cfg!(feature = "tracing") {
        return;
    }
    let lines = Log::lines();
    let told: Vec<_> = lines.iter().filter_map(|line| Some(line.split_once("Z  ")?.1)).collect();
    let hangs = "WARN tower_bearer: the hook for new refresh tokens does not end: until it does, \
                 the newest is not stored source=\"default\" running_for=10s";
    let ended = " INFO tower_bearer: the hook for new refresh tokens has ended \
                 source=\"default\" took=60s";
    let told: Vec<_> = told.into_iter().map(str::trim_start).collect();
    assert_eq!(told, [hangs, ended.trim_start()].repeat(2));
}

#[tokio::test(start_paused = true)]
async fn hooks_run_one_after_another_in_order_however_long_each_takes() {
    let (builder, service) = rotating(6);
    let takes = |token: &str| match token {
        "rt-1" => 25 * S,
        "rt-2" | "rt-5" => Duration::ZERO,
        _ => 6 * S,
    };
    let (endpoint, stored) = storing(builder, takes);
    let begin = Instant::now();
    let mut token = fetch(&endpoint).await.unwrap();
    for _ in 1..6 {
        token = after(&endpoint, &token).await.unwrap();
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(exchanged(&service), chain(0..=5));
    endpoint.refresh_tokens_stored().await;
    assert_eq!(*stored.lock().unwrap(), chain(1..=6));
    // One after another: their times add up.
    assert!(begin.elapsed() >= (25 + 3 * 6) * S, "{:?}", begin.elapsed());
}

/// The numbers of the cache's defaults, and of a service whose exchanges are given up early.
#[tokio::test(start_paused = true)]
async fn with_a_cache_above_no_slow_hook_has_a_refresh_token_sent_twice() {
    for (hook_takes, timeout) in [(25 * S, None), (6 * S, Some(2 * S)), (500 * S, Some(2 * S))] {
        let (builder, service) = rotating(5);
        let builder = timeout.into_iter().fold(builder, TokenEndpointBuilder::timeout);
        let (endpoint, stored) = storing(builder, move |_| hook_takes);
        let endpoint = Arc::new(endpoint);
        let cache = TokenCache::new(Arc::clone(&endpoint));
        for at in 1..=5 {
            let begin = Instant::now();
            assert_eq!(cache.get().await.unwrap().secret(), format!("at-{at}"));
            assert_eq!(begin.elapsed(), Duration::ZERO, "nobody waits for the hook");
            // It expires.
            sleep(100 * S).await;
        }
        assert_eq!(exchanged(&service), chain(0..=4));
        endpoint.refresh_tokens_stored().await;
        assert_eq!(*stored.lock().unwrap(), chain(1..=5));
    }
}

#[tokio::test]
async fn an_endpoint_that_is_dropped_leaves_no_new_refresh_token_behind() {
    let (told, mut tokens) = mpsc::unbounded_channel();
    let permits = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&permits);
    let (builder, _) = rotating(2);
    let hook = move |token: Zeroizing<String>| {
        let (told, gate) = (told.clone(), Arc::clone(&gate));
        async move {
            gate.acquire().await.unwrap().forget();
            told.send(token.to_string()).unwrap();
        }
    };
    let endpoint = builder.on_new_refresh_token(hook).build().unwrap();
    fetch(&endpoint).await.unwrap();
    fetch(&endpoint).await.unwrap();
    drop(endpoint);
    permits.add_permits(2);
    assert_eq!(tokens.recv().await.unwrap(), "rt-1");
    assert_eq!(tokens.recv().await.unwrap(), "rt-2");
    assert_eq!(tokens.recv().await, None, "the hook goes once it has had all");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_dropped_in_the_middle_of_an_exchange_sees_it_through() {
    let (told, mut tokens) = mpsc::unbounded_channel();
    let (builder, _) = refreshing([slow(S, 1)]);
    let hook = move |token: Zeroizing<String>| {
        told.send(token.to_string()).unwrap();
        async {}
    };
    let endpoint = builder.on_new_refresh_token(hook).build().unwrap();
    assert!(fetch(&endpoint).now_or_never().is_none());
    drop(endpoint);
    assert_eq!(tokens.recv().await.unwrap(), "rt-1");
}

// ===== The exchange =====

#[tokio::test(start_paused = true)]
async fn an_exchange_goes_on_when_its_fetch_is_given_up_and_the_next_fetch_waits_for_it() {
    let (builder, service) = refreshing([slow(5 * S, 1), answer(200, body(2))]);
    let endpoint = builder.build().unwrap();
    timeout(2 * S, fetch(&endpoint)).await.unwrap_err();
    let begin = Instant::now();
    let token = timeout(4 * S, fetch(&endpoint)).await.unwrap().unwrap();
    // tokio's timer counts in milliseconds and rounds up.
    assert_eq!(begin.elapsed().as_secs(), 3);
    assert_eq!((token.secret(), token.refresh_token()), ("at-1", Some("rt-1")));
    // It began before that fetch did, and its life with it.
    let lifetime = token.lifetime().unwrap();
    assert!((97 * S..=98 * S).contains(&lifetime), "{lifetime:?}");
    assert_eq!(exchanged(&service), ["rt-0"]);

    let next = after(&endpoint, &token).await.unwrap();
    assert_eq!((next.secret(), next.lifetime()), ("at-2", Some(100 * S)));
    assert_eq!(exchanged(&service), chain(0..=1));
}

#[tokio::test(start_paused = true)]
async fn with_a_cache_above_attempts_that_are_given_up_early_send_one_request() {
    let (builder, service) = refreshing([slow(7 * S, 1)]);
    let policy = RefreshPolicy::builder().attempt_timeout(3 * S).build().unwrap();
    let cache = TokenCache::with_policy(builder.timeout(8 * S).build().unwrap(), policy);
    assert_eq!(cache.get().await.unwrap().secret(), "at-1");
    assert_eq!(exchanged(&service), ["rt-0"]);
}

#[tokio::test(start_paused = true)]
async fn exchanges_never_run_in_parallel() {
    let steps = (1..=4).map(|at| slow(S, at));
    let (builder, service) = refreshing(steps);
    let endpoint = builder.build().unwrap();
    for at in 1..=4 {
        let fetches = (0..5).map(|_| fetch(&endpoint));
        for token in futures_util::future::join_all(fetches).await {
            assert_eq!(token.unwrap().secret(), format!("at-{at}"));
        }
    }
    assert_eq!(service.most_at_once(), 1);
    assert_eq!(exchanged(&service), chain(0..=3));
}

#[tokio::test(start_paused = true)]
async fn fetches_that_are_given_up_one_after_another_never_run_in_parallel() {
    let (builder, service) = refreshing([Step::Hang, slow(3 * S, 1), slow(3 * S, 2)]);
    let endpoint = builder.timeout(4 * S).build().unwrap();
    for _ in 0..20 {
        let _ = timeout(S / 2, fetch(&endpoint)).await;
    }
    assert_eq!(service.most_at_once(), 1);
    assert_eq!(exchanged(&service), ["rt-0", "rt-0", "rt-1"]);
}

#[tokio::test(start_paused = true)]
async fn the_chain_is_followed_however_many_exchanges_a_request_has_missed() {
    let (builder, service) = rotating(300);
    let endpoint = builder.build().unwrap();
    let first = fetch(&endpoint).await.unwrap();
    for at in 2..=300 {
        // Its token is published nowhere: the next request carries the first one again.
        let token = after(&endpoint, &first).await.unwrap();
        assert_eq!(token.secret(), format!("at-{at}"));
    }
    assert_eq!(exchanged(&service), chain(0..=299));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_nobody_waited_for_is_for_the_next_fetch_if_it_still_wants_it() {
    let (builder, service) = refreshing((1..=5).map(|at| slow(S, at)));
    let endpoint = builder.build().unwrap();
    let give_up = async || {
        assert!(timeout(S / 2, fetch(&endpoint)).await.is_err());
        sleep(4 * S).await;
    };
    give_up().await;
    let token = fetch(&endpoint).now_or_never().unwrap().unwrap();
    assert_eq!((token.secret(), exchanged(&service).len()), ("at-1", 1));
    let lifetime = token.lifetime().unwrap();
    assert!((94 * S..=96 * S).contains(&lifetime), "{lifetime:?}");

    // Not if it was rejected meanwhile, and not if it is old.
    give_up().await;
    let rejected = AccessToken::new("at-2").unwrap();
    let request = TokenRequest::new(Reason::Rejected).with_rejected(rejected);
    assert_eq!(endpoint.fetch(request).await.unwrap().secret(), "at-3");
    give_up().await;
    sleep(60 * S).await;
    assert_eq!(fetch(&endpoint).await.unwrap().secret(), "at-5");
    assert_eq!(exchanged(&service), chain(0..=4));
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_no_fetch_waited_for_is_not_that_of_the_next_fetch() {
    let (builder, service) = refreshing([
        support::slow(S, answer(503, "")),
        answer(200, r#"{"error":"slow_down"}"#),
        answer(200, body(1)),
    ]);
    let endpoint = builder.build().unwrap();
    assert!(timeout(S / 2, fetch(&endpoint)).await.is_err());
    sleep(S).await;
    assert_eq!(fetch(&endpoint).await.unwrap().secret(), "at-1");
    assert_eq!(service.seen().len(), 3);
}

// ===== Runtimes =====

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

#[test]
fn an_exchange_that_ends_with_its_runtime_leaves_its_outcome_in_doubt() {
    let (builder, service) = refreshing([Step::Hang, answer(400, r#"{"error":"invalid_grant"}"#)]);
    let endpoint = builder.build().unwrap();
    let first = runtime();
    first.block_on(async {
        assert!(timeout(S, fetch(&endpoint)).await.is_err());
    });
    drop(first);
    let error = runtime().block_on(fetch(&endpoint)).unwrap_err();
    assert_eq!(*kind(&error), Kind::RefreshTokenLost);
    assert_eq!(service.seen().len(), 2);
}

#[test]
fn an_exchange_on_a_runtime_that_nobody_drives_holds_the_next_one_up_for_a_bounded_time() {
    let (builder, service) = refreshing([Step::Hang, answer(200, body(1))]);
    let endpoint = builder.build().unwrap();
    let first = runtime();
    first.block_on(async {
        assert!(timeout(S, fetch(&endpoint)).await.is_err());
    });
    let fetched = runtime().block_on(async { timeout(60 * S, fetch(&endpoint)).await });
    let token = fetched.unwrap().unwrap();
    assert_eq!(token.secret(), "at-1");
    // Driven again, it sends nothing any more.
    first.block_on(async { sleep(600 * S).await });
    assert_eq!(exchanged(&service), ["rt-0", "rt-0"]);
}

#[test]
fn a_hook_that_ends_with_its_runtime_is_called_again_on_the_next_one() {
    let (builder, _) = rotating(2);
    let (endpoint, stored) = storing(builder, |_| 5 * S);
    let first = runtime();
    first.block_on(fetch(&endpoint)).unwrap();
    drop(first);
    runtime().block_on(async {
        fetch(&endpoint).await.unwrap();
        endpoint.refresh_tokens_stored().await;
    });
    assert_eq!(*stored.lock().unwrap(), chain(1..=2));
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_panics_costs_one_fetch() {
    // A request that the script has no answer for.
    let (builder, _) = refreshing([]);
    let endpoint = builder.build().unwrap();
    for _ in 0..2 {
        let error = fetch(&endpoint).await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&tower_bearer::CacheError::SourcePanicked));
    }
}
