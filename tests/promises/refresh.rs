//! A new token on demand: one fetch for all callers, and no request is delayed.

use futures_util::future::join_all;
use tokio::time::advance;
use tower::Layer;
use tower_bearer::{CacheError, Reason, Rejection, TokenCache};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_hundred_refreshes_cost_one_fetch_while_requests_use_the_token_there_is() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    let api = Api::new();
    let stack = layer(&cache).layer(api.clone());
    let (first, ()) = tokio::join!(cache.get(), async { desk.next().await.answer("a") });
    first.unwrap();

    let refreshes = join_all((0..100).map(|_| cache.refresh()));
    let meanwhile = async {
        let call = desk.next().await;
        assert_eq!(call.request.reason(), Reason::Requested);
        assert_eq!(call.request.previous().unwrap().secret(), "a");
        send(&stack, get("/")).await.unwrap();
        call.answer("b");
    };
    let (tokens, ()) = tokio::join!(refreshes, meanwhile);
    assert!(tokens.into_iter().all(|token| token.unwrap().secret() == "b"));
    send(&stack, get("/")).await.unwrap();
    assert_eq!(api.tokens(), ["a", "b"]);
    assert_eq!(cache.refresh().await.unwrap().secret(), "b", "within a second");
    desk.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_is_an_error_of_its_caller_and_the_token_stays() {
    let mint = Mint::default();
    let cache = cache(mint.clone()).named("billing");
    cache.get().await.unwrap();
    mint.fail_with(busy());
    assert_eq!(cache.refresh().await.unwrap_err().to_string(), "billing: busy");
    assert_eq!(cache.refresh().await.unwrap_err().to_string(), "billing: busy", "a cooldown");
    assert_eq!((cache.get().await.unwrap().secret(), mint.fetches()), ("t1", 2));
    mint.fail_with(None);
    advance(S).await;
    assert_eq!(cache.refresh().await.unwrap().secret(), "t3");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_waits_no_longer_than_the_policy_says() {
    let (source, mut desk) = manual();
    let policy = exact().max_wait(5 * S).build().unwrap();
    let cache = TokenCache::with_policy(source, policy);
    let (error, call) = tokio::join!(cache.refresh(), desk.next());
    assert_eq!(error.unwrap_err().downcast_ref(), Some(&CacheError::WaitTimeout(5 * S)));
    call.answer("a");
    settle().await;
    assert_eq!(cache.current().unwrap().secret(), "a", "the fetch went on");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_joins_a_renewal_gets_the_current_token_if_the_source_has_no_newer_one() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    desk.fill(&cache, token("a")).await;
    let renewal = renew(&cache, Rejection::new(token("a")));
    let flight = desk.next().await;
    let refresh = tokio::spawn({
        let cache = cache.clone();
        async move { cache.refresh().await }
    });
    settle().await;
    flight.answer("a");
    renewal.await.unwrap().unwrap_err();
    assert_eq!(refresh.await.unwrap().unwrap().secret(), "a");
}
