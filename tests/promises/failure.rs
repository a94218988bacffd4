//! Promises 12 to 18.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use futures_util::FutureExt;
use http_body_util::BodyExt;
use tokio::time::{Instant, advance};
use tower::Layer;
use tower_bearer::{CacheError, Challenge, RefreshPolicy, Rejection, TokenCache, TokenError};

use crate::support::*;

// ===== 12 =====

#[tokio::test(start_paused = true)]
async fn a_failed_flight_takes_away_no_token_that_has_not_expired() {
    let mint = Mint::living(101 * S);
    let cache = cache(mint.clone());
    cache.get().await.unwrap();
    mint.fail_with(invalid_client());
    advance(85 * S).await;
    for _ in 0..4 {
        assert_eq!(cache.get().await.unwrap().secret(), "t1");
        settle().await;
        advance(S).await;
    }
    assert!(mint.fetches() > 1);
}

#[tokio::test(start_paused = true)]
async fn while_a_renewal_is_in_flight_callers_wait_for_it() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    desk.fill(&cache, token("a")).await;
    cache.reject(Rejection::new(token("a")));
    let caller = ask(&cache);
    let call = desk.next().await;
    settle().await;
    assert!(!caller.is_finished());
    call.answer("b");
    assert_eq!(caller.await.unwrap().unwrap().secret(), "b");
}

#[tokio::test(start_paused = true)]
async fn if_the_renewal_fails_cools_down_or_brings_the_same_token_callers_get_the_suspect_one() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    desk.fill(&cache, token("a")).await;
    for outcome in [Err(busy()), Ok(token("a"))] {
        cache.reject(Rejection::new(token("a")));
        let caller = ask(&cache);
        settle().await;
        desk.next().await.reply(outcome);
        assert_eq!(caller.await.unwrap().unwrap().secret(), "a");
        assert_eq!(cache.get().now_or_never().unwrap().unwrap().secret(), "a", "it cools down");
        assert!(cache.status().is_suspect());
        advance(2 * S).await;
    }
}

// ===== 13 =====

#[tokio::test(start_paused = true)]
async fn a_transient_failure_is_tried_again_inside_the_flight() {
    let (source, mut desk) = manual();
    let cache = TokenCache::new(source);
    let caller = ask(&cache);
    let began = Instant::now();
    desk.next().await.reply(Err(busy()));
    desk.next().await.reply(Err(busy()));
    let pauses = began.elapsed();
    assert!(pauses > S / 5 && pauses <= S * 3 / 4, "250 ms and 500 ms, jittered: {pauses:?}");
    desk.next().await.answer("a");
    assert_eq!(caller.await.unwrap().unwrap().secret(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_flight_makes_three_attempts_and_no_more() {
    let mint = Mint::default();
    mint.fail_with(busy());
    let cache = TokenCache::new(mint.clone());
    assert_eq!(cache.get().await.unwrap_err().to_string(), "busy");
    assert_eq!(mint.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_is_not_tried_again() {
    let mint = Mint::default();
    mint.fail_with(invalid_client());
    let cache = TokenCache::new(mint.clone());
    assert!(!cache.get().await.unwrap_err().is_transient());
    assert_eq!(mint.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_takes_ten_seconds_at_most_and_all_together_thirty() {
    let (source, mut desk) = manual();
    let cache = TokenCache::new(source);
    let caller = ask(&cache);
    let began = Instant::now();
    let first = desk.next().await;
    let second = desk.next().await;
    let waited = began.elapsed();
    assert!(waited > 10 * S && waited < 11 * S, "{waited:?}");
    assert!(first.is_abandoned());
    let third = desk.next().await;
    let error = caller.await.unwrap().unwrap_err();
    assert_eq!(began.elapsed(), 30 * S);
    assert!(error.is_transient() && error.to_string().contains("30s"), "{error}");
    assert!(second.is_abandoned() && third.is_abandoned());
    desk.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_may_take_as_long_as_the_source_suggests() {
    let mint = Mint::taking(100 * S);
    mint.suggest_timeout(120 * S);
    assert_eq!(TokenCache::new(mint).get().await.unwrap().secret(), "t1");
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_of_up_to_two_seconds_is_waited_for() {
    let (source, mut desk) = manual();
    let cache = TokenCache::new(source);
    let caller = ask(&cache);
    desk.next().await.reply(Err(busy().with_retry_after(2 * S)));
    let began = Instant::now();
    let second = desk.next().await;
    assert_eq!(began.elapsed(), 2 * S);
    second.answer("a");
    assert_eq!(caller.await.unwrap().unwrap().secret(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_longer_retry_after_ends_the_flight_and_becomes_the_cooldown_five_minutes_at_most() {
    for (asked, cooldown) in [(3 * S, 3 * S), (1_000_000_000 * S, 300 * S)] {
        let mint = Mint::default();
        mint.fail_with(busy().with_retry_after(asked));
        let cache = TokenCache::new(mint.clone());
        cache.get().await.unwrap_err();
        assert_eq!(mint.fetches(), 1);
        assert_eq!(cache.status().cooldown_until().unwrap() - Instant::now(), cooldown);
    }
}

// ===== 14 =====

#[tokio::test(start_paused = true)]
async fn while_the_source_cools_down_callers_without_a_token_get_the_last_error_at_once() {
    let mint = Mint::default();
    let cache = cache(mint.clone());
    mint.fail_with(busy());
    cache.get().await.unwrap_err();
    for _ in 0..100 {
        let error = cache.get().now_or_never().expect("at once").unwrap_err();
        assert_eq!(error.to_string(), "busy");
    }
    assert_eq!(mint.fetches(), 1);
    advance(S).await;
    mint.fail_with(None);
    assert_eq!(cache.get().await.unwrap().secret(), "t2");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_keeps_failing_permanently_is_asked_again() {
    let mint = Mint::default();
    mint.fail_with(invalid_client());
    let cache = cache(mint.clone());
    for _ in 0..50 {
        cache.get().await.unwrap_err();
        advance(300 * S).await;
    }
    mint.fail_with(None);
    cache.get().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_cooldown_after_a_permanent_failure_ends_early_when_the_source_has_recovered() {
    let mint = Mint::default();
    mint.fail_with(invalid_client());
    let cache = cache(mint.clone());
    cache.get().await.unwrap_err();
    for _ in 0..5 {
        cache.get().await.unwrap_err();
        settle().await;
        advance(S).await;
    }
    assert_eq!(mint.fetches(), 1, "it has not recovered");
    mint.fail_with(None);
    mint.recover_after(0);
    cache.get().await.unwrap_err();
    settle().await;
    assert_eq!(cache.get().await.unwrap().secret(), "t2");
}

#[tokio::test(start_paused = true)]
async fn that_cooldown_ends_early_too_while_there_is_a_usable_token() {
    let mint = Mint::living(101 * S);
    let cache = cache(mint.clone());
    let stack = layer(&cache).layer(Api::new());
    cache.get().await.unwrap();
    mint.fail_with(invalid_client());
    advance(80 * S).await;
    for _ in 0..5 {
        send(&stack, get("/")).await.unwrap();
        cache.get().await.unwrap();
        settle().await;
        advance(S).await;
    }
    assert_eq!((mint.fetches(), mint.recovery_checks()), (2, 4));
    mint.fail_with(None);
    mint.recover_after(0);
    for _ in 0..2 {
        send(&stack, get("/")).await.unwrap();
        settle().await;
    }
    assert_eq!(cache.get().await.unwrap().secret(), "t3");
}

// ===== 15 =====

#[tokio::test(start_paused = true)]
async fn a_server_that_rejects_every_fresh_token_costs_a_bounded_number_of_fetches() {
    let mint = Mint::default();
    let api = Api::new();
    api.reject_all(true);
    let stack = layer(&cache(mint.clone())).layer(api.clone());
    // An hour of ten requests a second.
    for _ in 0..36_000 {
        assert_eq!(send(&stack, get("/")).await.unwrap().status(), 401);
        advance(S / 10).await;
    }
    // 1, 1, then after 5, 10, 20, 40, 80, 160, 300, 300 … seconds.
    let expected = 2 + 6 + (3600 - 315) / 300;
    assert!(mint.fetches() <= expected + 2, "{} for {expected}", mint.fetches());

    api.reject_all(false);
    assert_eq!(send(&stack, get("/")).await.unwrap().status(), 200, "the token is still sent");
}

#[tokio::test(start_paused = true)]
async fn acceptance_clears_the_backoff() {
    let mint = Mint::default();
    let api = Api::new();
    let stack = layer(&cache(mint.clone())).layer(api.clone());
    api.reject_all(true);
    for _ in 0..60 {
        send(&stack, get("/")).await.unwrap();
        advance(S).await;
    }
    api.reject_all(false);
    send(&stack, get("/")).await.unwrap();
    let fetches = mint.fetches();
    // Each of these renewals brings a token that is accepted: none has to wait.
    for n in 0..10 {
        api.revoke(&format!("t{}", fetches + n));
        assert_eq!(send(&stack, get("/")).await.unwrap().status(), 200);
    }
    assert_eq!(mint.fetches(), fetches + 10);
}

#[tokio::test(start_paused = true)]
async fn other_origins_are_not_held_up() {
    let mint = Mint::default();
    let cache = cache(mint.clone());
    let (good, bad) = (Api::new(), Api::new());
    bad.reject_all(true);
    let to_good = layer(&cache).layer(good.clone());
    let to_bad = layer(&cache).origin("https://bad.example.com").unwrap().layer(bad.clone());
    let get_bad = || http::Request::get("https://bad.example.com/").body(String::new()).unwrap();
    for n in 1..10 {
        send(&to_bad, get_bad()).await.unwrap();
        assert_eq!(send(&to_good, get("/")).await.unwrap().status(), 200);
        let current = cache.current().unwrap();
        good.revoke(current.secret());
        assert_eq!(send(&to_good, get("/")).await.unwrap().status(), 200, "round {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_proves_nothing() {
    // `None`: a 401; else a status of HTTP and one of gRPC.
    for failure in [(503, "0"), (200, "14"), (403, "0"), (404, "0"), (429, "0"), (200, "7")] {
        let mint = Mint::default();
        let answers = Arc::new(Mutex::new(VecDeque::from([None, Some(failure), None, None])));
        let inner = tower::service_fn(move |_: http::Request<String>| {
            let (status, grpc) = answers.lock().unwrap().pop_front().unwrap().unwrap_or((401, "0"));
            let response = http::Response::builder().status(status).header("grpc-status", grpc);
            async move { Ok::<_, tower::BoxError>(response.body(String::new())?) }
        });
        let stack = layer(&cache(mint.clone())).grpc().layer(inner);
        let request = || http::Request::get(API).body(String::new()).unwrap();
        assert_eq!(send(&stack, request()).await.unwrap().status(), failure.0);
        assert_eq!(send(&stack, request()).await.unwrap().status(), 401);
        assert_eq!(mint.fetches(), 2, "the renewed token was still unproven: a backoff");
    }
}

// ===== 16 =====

#[tokio::test(start_paused = true)]
async fn a_source_that_answers_a_renewal_with_the_rejected_token_is_a_backoff_and_no_replay() {
    let mint = Mint::default();
    mint.always(token("fixed"));
    let api = Api::new();
    api.revoke("fixed");
    let stack = layer(&cache(mint.clone())).layer(api.clone());
    let response = send(&stack, get("/")).await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!((mint.fetches(), api.tokens().len()), (2, 1));
    for _ in 0..10 {
        send(&stack, get("/")).await.unwrap();
    }
    assert_eq!(mint.fetches(), 2, "the origin is held up");
    advance(5 * S).await;
    send(&stack, get("/")).await.unwrap();
    assert_eq!(mint.fetches(), 3);
}

// ===== 17 =====

#[tokio::test(start_paused = true)]
async fn if_a_renewal_fails_the_caller_gets_the_original_response_untouched_with_its_body() {
    let mint = Mint::default();
    let api = Api::new();
    api.challenge_with("Bearer error=\"invalid_token\"");
    let stack = layer(&cache(mint.clone())).layer(api.clone());
    send(&stack, get("/")).await.unwrap();
    api.revoke("t1");
    mint.fail_with(invalid_client());
    let response = send(&stack, get("/")).await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["www-authenticate"], "Bearer error=\"invalid_token\"");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "who are you?");
    assert_eq!(api.tokens(), ["t1", "t1"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_goes_to_the_log_and_the_counters() {
    let mint = Mint::default();
    let api = Api::new();
    let cache = cache(mint.clone());
    let stack = layer(&cache).layer(api.clone());
    send(&stack, get("/")).await.unwrap();
    api.revoke("t1");
    mint.fail_with(TokenError::permanent("the vault is sealed"));
    let log = Log::start();
    send(&stack, get("/")).await.unwrap();
    let log = log.text();
    assert!(log.contains("WARN") && log.contains("the vault is sealed"), "{log}");
    assert!(log.contains("a rejected access token was not renewed"), "{log}");
    assert_eq!((cache.status().flights(), cache.status().failures()), (2, 1));
}

// ===== 18 =====

#[tokio::test(start_paused = true)]
async fn a_caller_waits_at_most_as_long_as_the_policy_says_and_that_does_not_end_the_flight() {
    let (source, mut desk) = manual();
    let policy = exact().max_wait(2 * S).build().unwrap();
    let cache = TokenCache::with_policy(source, policy);
    let began = Instant::now();
    let error = cache.get().await.unwrap_err();
    assert_eq!(began.elapsed(), 2 * S);
    assert_eq!(error.downcast_ref(), Some(&CacheError::WaitTimeout(2 * S)));
    let call = desk.next().await;
    assert!(!call.is_abandoned());
    call.answer("a");
    settle().await;
    assert_eq!(cache.get().await.unwrap().secret(), "a");
    desk.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_a_suspect_token_gets_it_when_the_wait_is_over() {
    let (source, mut desk) = manual();
    let policy = exact().max_wait(2 * S).build().unwrap();
    let cache = TokenCache::with_policy(source, policy);
    desk.fill(&cache, token("a")).await;
    cache.reject(Rejection::new(token("a")));
    assert_eq!(cache.get().await.unwrap().secret(), "a");
    let error = cache.renew(Rejection::new(token("a"))).await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&CacheError::WaitTimeout(2 * S)));
}

#[tokio::test(start_paused = true)]
async fn by_default_a_caller_waits_longer_than_the_flight_may_take_and_gets_its_error() {
    for (policy, longest) in [
        (RefreshPolicy::builder(), 30 * S),
        (RefreshPolicy::builder().fetch_timeout(15 * S), 15 * S),
        // A single attempt ends before that, and the flight with it.
        (RefreshPolicy::builder().attempts(1), 10 * S),
    ] {
        let policy = policy.build().unwrap();
        let cache = TokenCache::with_policy(Mint::taking(3600 * S), policy);
        let began = Instant::now();
        let error = cache.get().await.unwrap_err();
        assert_eq!(began.elapsed(), longest);
        assert_eq!(error.downcast_ref(), Some(&CacheError::FetchTimeout(longest)));
    }
}

#[tokio::test(start_paused = true)]
async fn by_default_a_caller_that_needs_two_flights_waits_a_second_longer_than_one_may_take() {
    for (policy, longest) in [
        (RefreshPolicy::builder(), 31 * S),
        (RefreshPolicy::builder().fetch_timeout(15 * S), 16 * S),
    ] {
        let (source, mut desk) = manual();
        let cache = TokenCache::with_policy(source, policy.build().unwrap());
        desk.fill(&cache, token("a")).await;
        cache.reject(Rejection::new(token("a")));
        let first = desk.next().await;
        let began = Instant::now();
        // The flight under way was not asked for these claims.
        let challenge = Challenge::new("Bearer").with_param("claims", "c");
        let renewal = renew(&cache, Rejection::new(token("a")).with_challenge(challenge));
        settle().await;
        advance(9 * S).await;
        first.answer("b");
        let error = renewal.await.unwrap().unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&CacheError::WaitTimeout(longest)));
        assert_eq!(began.elapsed(), longest);
    }
}
