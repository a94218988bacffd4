//! The authorization server is killed, and started again.

use std::time::Duration;

use tokio::time::sleep_until;
use tower_bearer::{RefreshPolicy, TokenCache, TokenError, oauth2::EndpointErrorKind as Kind};

use crate::{
    load::{Load, in_flight},
    servers::{endpoint, http, kill, secret_of, seen, setting, start},
    stack::{Caller, refusal, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn while_the_token_lives_no_call_fails_and_the_server_that_is_back_is_found() {
    // Due after two of its twenty seconds.
    let policy = RefreshPolicy::builder().due_share(0.9).due_jitter(0.0).build().unwrap();
    let endpoint = endpoint("patient", &secret_of("patient"));
    let endpoint = endpoint.resource("https://api.example.com/jwt").build().unwrap();
    let cache = TokenCache::with_policy(endpoint, policy);
    let caller = Caller::over(http().build().unwrap(), &cache, &setting("API"), "/jwt");
    caller.succeed().await;
    let old = cache.current().unwrap();

    kill().await;
    let load = Load::start(&caller, 10, Duration::from_millis(20));
    until(&cache, |status| status.failures() == 2).await;
    let error = cache.status().last_error().cloned().unwrap();
    assert_eq!(refusal(&error).kind(), &Kind::Unreachable);
    start().await;
    until(&cache, |status| status.last_error().is_none()).await;
    let figures = load.stop().await;

    assert_ne!(cache.current().unwrap().secret(), old.secret());
    let fetches = seen("patient").await.granted;
    figures.report("killed and started again, 10 callers", fetches);
    figures.assert_none_failed();
    assert_eq!((fetches, figures.replays()), (1, 0));
    assert!(figures.longest_wait() <= Duration::from_millis(100), "{:?}", figures.longest_wait());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_forgotten_its_tokens_is_asked_for_one_new_one() {
    let cache = TokenCache::new(endpoint("forgotten", &secret_of("forgotten")).build().unwrap());
    let caller = Caller::new(&cache);
    caller.succeed().await;
    kill().await;
    start().await;
    let figures = in_flight(&caller, 200).ended().await;
    let fetches = seen("forgotten").await.granted;
    figures.report("all tokens forgotten, 200 callers", fetches);
    figures.assert_none_failed();
    assert_eq!((figures.calls(), fetches), (200, 1));
}

#[tokio::test]
async fn without_a_token_a_call_fails_while_the_server_is_down_and_succeeds_once_it_is_back() {
    let cache = TokenCache::new(endpoint("late", &secret_of("late")).build().unwrap());
    let caller = Caller::new(&cache);
    kill().await;
    let error = caller.call().await.unwrap_err();
    let error: &TokenError = error.downcast_ref().expect("there was no token");
    assert!(error.is_transient(), "{error}");
    assert_eq!(refusal(error).kind(), &Kind::Unreachable);
    // Before the start, which may take longer than it.
    let cool = cache.status().cooldown_until().expect("the source cools down after a failure");
    start().await;
    sleep_until(cool).await;
    caller.succeed().await;
}
