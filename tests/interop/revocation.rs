//! Tokens that die: before their time, by revocation; and of old age, every few seconds.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tower_bearer::TokenCache;

use crate::{
    load::{Figures, Load, in_flight},
    servers::{endpoint, held, hold, release, revoke, secret_of, seen},
    stack::Caller,
};

const REVOCATIONS: usize = 10;
const IN_FLIGHT: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_under_two_hundred_calls_costs_one_fetch_and_no_call() {
    let cache = TokenCache::new(endpoint("revoked", &secret_of("revoked")).build().unwrap());
    let caller = Caller::new(&cache);
    caller.succeed().await;
    let mut figures = Figures::default();
    for fetches in 1..=REVOCATIONS {
        let token = cache.current().unwrap();
        hold(IN_FLIGHT).await;
        let calls = in_flight(&caller, IN_FLIGHT);
        held().await;
        revoke(&token, "revoked").await;
        release().await;
        figures.extend(calls.landed().await);
        assert_eq!(seen("revoked").await.granted, 1 + fetches as u64);
    }
    figures.report("10 revocations, 200 calls in flight each", REVOCATIONS as u64);
    figures.assert_none_failed();
    let all = REVOCATIONS * IN_FLIGHT;
    assert_eq!((figures.calls(), figures.replays()), (all, all));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_three_seconds_are_renewed_before_anybody_has_to_wait() {
    let cache = TokenCache::new(endpoint("brief", &secret_of("brief")).build().unwrap());
    let caller = Caller::new(&cache);
    caller.succeed().await;
    let end = Instant::now() + Duration::from_secs(30);
    let load = Load::start(&caller, 20, Duration::from_millis(40));
    sleep_until(end).await;
    let figures = load.stop().await;
    let fetches = seen("brief").await.granted;
    figures.report("tokens of 3 s, 20 callers for 30 s", fetches);
    figures.assert_none_failed();
    assert!(figures.longest_wait() <= Duration::from_millis(100), "{:?}", figures.longest_wait());
    assert_eq!(figures.replays(), 0, "no token was used to its bitter end");
    // A token counts as two seconds, is due in the last fifth of them (jitter: up to three
    // tenths) and expired in the last tenth.
    assert!((17..=23).contains(&fetches), "{fetches}");
}
