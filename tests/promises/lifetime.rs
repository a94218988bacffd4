//! Promises 7 to 11. `src/cache/state/tests/lifetime.rs` has the exact numbers.

use std::time::{Duration, SystemTime};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, advance};
use tower::Layer;
use tower_bearer::{Reason, RefreshPolicy, TokenCache};

use crate::support::*;

/// How long from now until the cache stops using its token.
fn left(cache: &TokenCache) -> Duration {
    cache.status().expiry().unwrap() - Instant::now()
}

// ===== 7 =====

#[tokio::test(start_paused = true)]
async fn age_is_counted_from_the_call_of_fetch_and_never_from_the_arrival() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    assert!(cache.get().now_or_never().is_none());
    let call = desk.next().await;
    advance(9 * S).await;
    call.reply(Ok(token("a").with_lifetime(101 * S)));
    settle().await;
    assert_eq!(left(&cache), 81 * S);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_counts_anew() {
    let (source, mut desk) = manual();
    let policy = exact().attempts(3).build().unwrap();
    let cache = TokenCache::with_policy(source, policy);
    assert!(cache.get().now_or_never().is_none());
    let first = desk.next().await;
    advance(5 * S).await;
    first.reply(Err(busy()));
    let second = desk.next().await;
    second.reply(Ok(token("a").with_lifetime(101 * S)));
    settle().await;
    assert_eq!(left(&cache), 90 * S);
}

// ===== 8 =====

#[tokio::test(start_paused = true)]
async fn a_fleet_does_not_refresh_at_once() {
    let mut dues = Vec::new();
    for _ in 0..100 {
        let cache = TokenCache::new(Mint::living(1001 * S));
        cache.get().await.unwrap();
        let due = cache.status().due().unwrap() - Instant::now();
        assert!(due > 699 * S && due <= 800 * S, "{due:?}");
        dues.push(due);
    }
    dues.sort();
    assert!(dues[99] > dues[0] + 50 * S, "the jitter spreads over 100 s: {dues:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_counts_as_expired_ten_seconds_early() {
    let mint = Mint::living(101 * S);
    let cache = cache(mint.clone());
    cache.get().await.unwrap();
    advance(Duration::from_millis(89_999)).await;
    assert!(cache.current().is_some());
    advance(Duration::from_millis(1)).await;
    assert!(cache.current().is_none());
    assert_eq!(cache.get().await.unwrap().secret(), "t2");
}

// ===== 9 =====

#[tokio::test(start_paused = true)]
async fn while_a_token_is_due_requests_use_it_and_none_waits() {
    let (source, mut desk) = manual();
    let api = Api::new();
    let cache = cache(source);
    let stack = layer(&cache).layer(api.clone());
    let first = tokio::spawn({
        let stack = stack.clone();
        async move { send(&stack, get("/1")).await.unwrap() }
    });
    desk.next().await.reply(Ok(token("a").with_lifetime(101 * S)));
    first.await.unwrap();

    advance(80 * S).await;
    for _ in 0..100 {
        send(&stack, get("/2")).now_or_never().expect("it does not wait").unwrap();
    }
    let call = desk.next().await;
    assert_eq!(call.request.reason(), Reason::Due);
    desk.assert_idle().await;
    call.answer("b");
    settle().await;
    send(&stack, get("/3")).await.unwrap();
    let tokens = api.tokens();
    assert_eq!((tokens.len(), tokens[100].as_str(), tokens[101].as_str()), (102, "a", "b"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_cache_fetches_nothing() {
    let mint = Mint::living(100 * S);
    let cache = cache(mint.clone());
    cache.get().await.unwrap();
    tokio::time::sleep(1000 * S).await;
    assert_eq!(mint.fetches(), 1);
    assert!(cache.current().is_none());
}

#[tokio::test(start_paused = true)]
async fn keep_warm_refreshes_without_traffic_from_the_beginning_until_the_last_handle_goes() {
    let mint = Mint::living(101 * S);
    let cache = TokenCache::with_policy(mint.clone(), exact().keep_warm(true).build().unwrap());
    tokio::time::sleep(S / 100).await;
    assert_eq!(mint.fetches(), 1, "nobody has asked");
    for _ in 0..1000 {
        tokio::time::sleep(S).await;
        assert!(cache.current().is_some());
    }
    assert_eq!(mint.fetches(), 1 + 1000 / 80);

    let other = cache.clone();
    drop(cache);
    tokio::time::sleep(80 * S).await;
    assert_eq!(mint.fetches(), 2 + 1000 / 80);
    drop(other);
    tokio::time::sleep(1000 * S).await;
    assert_eq!(mint.fetches(), 2 + 1000 / 80);
}

#[tokio::test(start_paused = true)]
async fn keep_warm_goes_on_after_failures() {
    let mint = Mint::living(101 * S);
    let cache = TokenCache::with_policy(mint.clone(), exact().keep_warm(true).build().unwrap());
    cache.get().await.unwrap();
    mint.fail_with(busy());
    tokio::time::sleep(200 * S).await;
    assert!(cache.current().is_none());
    mint.fail_with(None);
    tokio::time::sleep(20 * S).await;
    assert!(cache.current().is_some());
}

// ===== 10 =====

#[tokio::test(start_paused = true)]
async fn without_a_lifetime_the_exp_of_a_jwt_counts() {
    let exp = SystemTime::now() + 1000 * S;
    let exp = exp.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let jwt =
        format!("{}.{}.c2ln", encode(r#"{"alg":"RS256"}"#), encode(&format!(r#"{{"exp":{exp}}}"#)));
    let mint = Mint::default();
    mint.always(token(&jwt));
    let cache = TokenCache::with_policy(mint, exact().default_lifetime(60 * S).build().unwrap());
    cache.get().await.unwrap();
    let left = left(&cache);
    assert!(left > 980 * S && left <= 990 * S, "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_lifetime_and_without_a_jwt_the_policys_default_counts() {
    let policy = exact().default_lifetime(60 * S).build().unwrap();
    let cache = TokenCache::with_policy(Mint::default(), policy);
    cache.get().await.unwrap();
    assert_eq!(left(&cache), 54 * S);
}

#[tokio::test(start_paused = true)]
async fn a_token_without_any_lifetime_lives_until_a_rejection() {
    let mint = Mint::default();
    let api = Api::new();
    let cache = cache(mint.clone());
    let stack = layer(&cache).layer(api.clone());
    send(&stack, get("/1")).await.unwrap();
    advance(Duration::from_secs(10 * 365 * 24 * 3600)).await;
    send(&stack, get("/2")).await.unwrap();
    assert_eq!(mint.fetches(), 1);
    api.revoke("t1");
    assert_eq!(send(&stack, get("/3")).await.unwrap().status(), 200);
    assert_eq!(mint.fetches(), 2);
}

// ===== 11 =====

#[tokio::test(start_paused = true)]
async fn a_token_that_is_expired_on_arrival_serves_those_who_waited_and_is_not_kept() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    let waiters: Vec<_> = (0..10).map(|_| ask(&cache)).collect();
    let call = desk.next().await;
    settle().await;
    advance(5 * S).await;
    call.reply(Ok(token("late").with_lifetime(5 * S)));
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap().secret(), "late");
    }
    assert!(cache.current().is_none());
    desk.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_gains_nothing_is_not_tried_with_every_request() {
    let mint = Mint::living(101 * S);
    let policy = exact().due_share(0.9).due_jitter(0.0).build().unwrap();
    let cache = TokenCache::with_policy(mint.clone(), policy);
    let end = SystemTime::now() + 100 * S;
    mint.always(token("same").with_expiry(end));
    cache.get().await.unwrap();
    // The clock of the wall does not pause: each answer says that the end is as far as before,
    // so the answers are made to say that time has passed.
    for second in 1..80 {
        advance(S).await;
        mint.always(token("same").with_expiry(end - second * S));
        cache.get().await.unwrap();
        settle().await;
    }
    assert!(mint.fetches() <= 8, "each time half of what was left: {}", mint.fetches());
}

#[tokio::test(start_paused = true)]
async fn background_flights_start_at_most_once_a_second() {
    // Each token is due a tenth of a second after it came.
    let mint = Mint::living(Duration::from_millis(10_500));
    let policy = exact().due_share(0.99).due_jitter(0.0).build().unwrap();
    let cache = TokenCache::with_policy(mint.clone(), policy);
    cache.get().await.unwrap();
    for _ in 0..1000 {
        advance(S / 100).await;
        cache.get().await.unwrap();
        settle().await;
    }
    // Ten seconds.
    assert!((9..=11).contains(&mint.fetches()), "{}", mint.fetches());
}

// ===== Status =====

#[tokio::test(start_paused = true)]
async fn a_subscriber_sees_the_token_the_failures_and_the_end_of_the_cache() {
    let mint = Mint::living(101 * S);
    let cache = cache(mint.clone());
    let mut changes = cache.subscribe();
    let now = changes.next().await.unwrap();
    assert!(!now.has_token() && now.expiry().is_none());

    cache.get().await.unwrap();
    let fetched = changes.next().await.unwrap();
    assert!(fetched.has_token() && !fetched.is_fetching());
    assert_eq!(fetched.expiry().unwrap() - Instant::now(), 90 * S);

    mint.fail_with(busy());
    advance(95 * S).await;
    cache.get().await.unwrap_err();
    let failed = changes.next().await.unwrap();
    assert_eq!(failed.last_error().unwrap().to_string(), "busy");
    assert_eq!(failed.cooldown_until().unwrap() - Instant::now(), S);
    assert_eq!((failed.flights(), failed.failures()), (2, 1));

    drop(cache);
    assert!(changes.next().await.is_none(), "the stream does not keep the cache alive");
}

#[tokio::test(start_paused = true)]
async fn a_late_subscriber_sees_the_current_status() {
    let cache = cache(Mint::living(101 * S));
    cache.get().await.unwrap();
    let mut early = cache.subscribe();
    advance(95 * S).await;
    let mut late = cache.subscribe();
    for changes in [&mut early, &mut late] {
        let now = changes.next().await.unwrap();
        assert!(!now.has_token() && now.expiry().is_none(), "it has expired since");
        assert!(changes.next().now_or_never().is_none(), "and nothing has happened after that");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_margin_a_token_lives_as_long_as_the_longest_lifetime_allows() {
    let policy = RefreshPolicy::builder()
        .expiry_margin(Duration::ZERO)
        .max_lifetime(50 * S)
        .build()
        .unwrap();
    let cache = TokenCache::with_policy(Mint::living(100 * S), policy);
    cache.get().await.unwrap();
    assert_eq!(left(&cache), 50 * S);
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
