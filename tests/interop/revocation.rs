//! Tokens that die: before their time, by revocation; and of old age, every few seconds.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tower_bearer::{Reason, TokenCache, TokenSource, from_fn};

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
        figures.extend(calls.ended().await);
        assert_eq!(seen("revoked").await.granted, 1 + fetches as u64);
    }
    figures.report("10 revocations, 200 calls in flight each", REVOCATIONS as u64);
    figures.assert_none_failed();
    let all = REVOCATIONS * IN_FLIGHT;
    assert_eq!((figures.calls(), figures.replays()), (all, all));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_three_seconds_are_renewed_before_anybody_has_to_wait() {
    let endpoint = Arc::new(endpoint("brief", &secret_of("brief")).build().unwrap());
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&reasons);
    let cache = TokenCache::new(from_fn(move |request| {
        noted.lock().unwrap().push(request.reason());
        let endpoint = Arc::clone(&endpoint);
        async move { endpoint.fetch(request).await }
    }));
    let caller = Caller::new(&cache);
    caller.succeed().await;
    let end = Instant::now() + Duration::from_secs(30);
    let load = Load::start(&caller, 20, Duration::from_millis(80));
    sleep_until(end).await;
    let figures = load.stop().await;
    let fetches = seen("brief").await.granted;
    figures.report("tokens of 3 s, 20 callers for 30 s", fetches);
    figures.assert_none_failed();
    assert!(figures.longest_wait() <= Duration::from_millis(100), "{:?}", figures.longest_wait());
    assert_eq!(figures.replays(), 0, "no token was used to its bitter end");
    let [first, others @ ..] = &reasons.lock().unwrap()[..] else { panic!("nothing fetched") };
    assert_eq!(*first, Reason::First);
    assert!(others.iter().all(|reason| *reason == Reason::Due), "{others:?}");
    // A token counts as two seconds, and is due in the last three tenths of them at most.
    assert!(fetches <= 1 + 30_000 / 1400, "{fetches}");
}
