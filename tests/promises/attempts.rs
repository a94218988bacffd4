//! How long one flight tries, and how long one caller waits for what it asks.

use std::time::Duration;

use tokio::time::Instant;
use tower_bearer::{CacheError, Challenge, RefreshPolicy, Rejection, TokenCache, TokenError};

use super::support::*;

#[tokio::test(start_paused = true)]
async fn an_attempt_that_could_only_begin_at_the_end_of_the_flight_is_not_waited_for() {
    let limited = |limit: Duration| {
        let mint = Mint::default();
        mint.fail_with(TokenError::transient("busy").with_retry_after(2 * S));
        let policy = RefreshPolicy::builder().attempts(2).pause_jitter(0.0).fetch_timeout(limit);
        (TokenCache::with_policy(mint.clone(), policy.build().unwrap()), mint)
    };
    let start = Instant::now();
    let (cache, mint) = limited(2 * S);
    assert_eq!(cache.get().await.unwrap_err().to_string(), "busy");
    assert_eq!((start.elapsed(), mint.fetches()), (Duration::ZERO, 1));
    let (cache, mint) = limited(3 * S);
    assert_eq!(cache.get().await.unwrap_err().to_string(), "busy");
    assert_eq!((start.elapsed().as_secs(), mint.fetches()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn the_status_counts_the_attempts_the_flights_and_the_failures() {
    let mint = Mint::default();
    let cache = TokenCache::new(mint.clone()).named("billing");
    let counted = |cache: &TokenCache| {
        let status = cache.status();
        [status.attempts(), status.flights(), status.failures()]
    };
    assert_eq!(counted(&cache), [0, 0, 0]);
    mint.fail_with(busy());
    cache.get().await.unwrap_err();
    assert_eq!(counted(&cache), [3, 1, 1]);
    cache.get().await.unwrap_err();
    assert_eq!(counted(&cache), [3, 1, 1], "it cools down");
    mint.fail_with(None);
    tokio::time::advance(S).await;
    cache.get().await.unwrap();
    cache.get().await.unwrap();
    assert_eq!(counted(&cache), [4, 2, 1]);
    assert_eq!(cache.status().name(), Some("billing"));
}

#[tokio::test(start_paused = true)]
async fn another_attempt_and_a_replay_are_logged() {
    let log = Log::start();
    let mint = Mint::default();
    mint.fail_with(busy());
    let policy = RefreshPolicy::builder().attempts(2).build().unwrap();
    TokenCache::with_policy(mint, policy).get().await.unwrap_err();
    let text = log.text();
    assert_eq!(text.matches("error=busy").count(), 2, "the attempt and the flight: {text}");

    let log = Log::start();
    let api = Api::new();
    api.revoke("t1");
    let stack = tower::Layer::layer(&layer(&cache(Mint::default())), api);
    send(&stack, get("/")).await.unwrap();
    let text = log.text();
    assert_eq!(text.matches("sending a rejected request again").count(), 1, "{text}");
}

fn stepping_up() -> Rejection {
    let challenge = Challenge::new("Bearer").with_param("claims", "more");
    Rejection::new(token("a")).with_challenge(challenge)
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_needs_claims_starts_another_flight_at_the_end_of_the_one_under_way() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    let first = ask(&cache);
    let flight = desk.next().await;
    let asked = renew(&cache, stepping_up());
    settle().await;
    flight.answer("b");
    assert_eq!(first.await.unwrap().unwrap().secret(), "b");
    let flight = desk.next().await;
    let challenge = flight.request.challenge().expect("what was asked for");
    assert_eq!(challenge.param("claims"), Some("more"));
    flight.answer("c");
    assert_eq!(asked.await.unwrap().unwrap().secret(), "c");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_needs_claims_waits_no_longer_than_the_policy_says() {
    let (source, mut desk) = manual();
    let policy = exact().max_wait(5 * S).build().unwrap();
    let cache = TokenCache::with_policy(source, policy);
    let first = ask(&cache);
    let flight = desk.next().await;
    let start = Instant::now();
    let error = cache.renew(stepping_up()).await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 5);
    assert!(matches!(error.downcast_ref(), Some(CacheError::WaitTimeout(_))), "{error}");
    first.await.unwrap().unwrap_err();
    drop(flight);
}
