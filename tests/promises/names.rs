//! The name of a cache is in its events and its errors.

use std::time::Duration;

use tokio::time::advance;
use tower::Layer;
use tower_bearer::{
    AccessToken, CacheError, Challenge, Rejection, TokenCache, TokenError, TokenRequest,
    TokenSource, from_fn,
};

use crate::support::*;

async fn refused(cache: &TokenCache) -> String {
    cache.get().await.unwrap_err().to_string()
}

#[tokio::test(start_paused = true)]
async fn two_clients_of_one_token_service_are_distinguished_in_every_event() {
    let log = Log::start();
    let mint = Mint::default();
    let [billing, orders] = ["billing", "orders"].map(|name| cache(mint.clone()).named(name));
    let apis = [Api::new(), Api::new()];
    let stacks = [(&billing, &apis[0]), (&orders, &apis[1])]
        .map(|(cache, api)| layer(cache).layer(tower::ServiceBuilder::new().service(api.clone())));
    for (stack, api) in stacks.iter().zip(&apis) {
        send(stack, get("/")).await.unwrap();
        api.reject_all(true);
        assert_eq!(send(stack, get("/")).await.unwrap().status(), 401, "and a backoff");
        assert_eq!(send(stack, get("/")).await.unwrap().status(), 401, "not renewed");
    }
    mint.fail_with(busy());
    advance(20 * S).await;
    for (stack, name) in stacks.iter().zip(["billing", "orders"]) {
        assert_eq!(send(stack, get("/")).await.unwrap().status(), 401, "a fetch that fails");
        let cache = if name == "billing" { &billing } else { &orders };
        assert_eq!(cache.name(), Some(name));
        assert_eq!(cache.status().last_error().unwrap().to_string(), "busy", "it has the name");
    }

    let log = log.text();
    for event in [
        "fetching an access token",
        "fetched an access token",
        "an access token was rejected",
        "sending a rejected request again",
        "an origin rejects fresh access tokens",
        "a rejected access token was not renewed",
        "no access token could be fetched",
        "close",
    ] {
        for name in ["billing", "orders"] {
            let source = format!("source=\"{name}\"");
            let is_told = |line: &str| line.contains(event) && line.contains(&source);
            assert!(log.lines().any(is_told), "{event} of {name}: {log}");
        }
    }
    let lines: Vec<_> = log.lines().filter(|line| line.contains("tower_bearer")).collect();
    assert!(lines.iter().all(|line| line.contains("source=\"")), "{log}");
    let twice = |line: &&&str| line.contains("error=billing") || line.contains("error=orders");
    assert_eq!(lines.iter().find(twice), None, "the field says it");
}

#[tokio::test(start_paused = true)]
async fn every_error_of_a_named_cache_begins_with_its_name_and_keeps_its_cause() {
    let (source, mut desk) = manual();
    let policy = exact().max_wait(5 * S).build().unwrap();
    let cache = TokenCache::with_policy(source, policy).named("billing");
    let (error, call) = tokio::join!(cache.get(), desk.next());
    assert_eq!(call.request.source_name(), Some("billing"));
    let error = error.unwrap_err();
    assert_eq!(error.source_name(), Some("billing"));
    assert!(error.to_string().starts_with("billing: no access token within 5s"), "{error}");
    assert_eq!(error.downcast_ref(), Some(&CacheError::WaitTimeout(5 * S)));

    call.reply(Err(busy()));
    settle().await;
    assert_eq!(refused(&cache).await, "billing: busy", "it cools down");
    advance(S).await;
    let (error, ()) = tokio::join!(refused(&cache), async { desk.next().await.reply(Err(busy())) });
    assert_eq!(error, "billing: busy", "a flight that was waited for");

    let challenge = Challenge::new("Bearer").with_param("error", "insufficient_scope");
    let rejection = Rejection::new(token("old"));
    let error = cache.renew(rejection.clone().with_challenge(challenge)).await.unwrap_err();
    assert!(error.to_string().starts_with("billing: the API says"), "{error}");
    let error = cache.renew(rejection).await.unwrap_err();
    assert_eq!(error.to_string(), "billing: busy");
}

#[test]
fn a_named_cache_without_a_runtime_says_so_with_its_name() {
    let cache = cache(Mint::default()).named("billing");
    let error = futures_util::future::FutureExt::now_or_never(cache.get()).unwrap().unwrap_err();
    assert!(error.to_string().starts_with("billing: no tokio runtime"), "{error}");
}

/// A source that has a name of its own.
struct Vault;

impl TokenSource for Vault {
    async fn fetch(&self, _: TokenRequest) -> Result<AccessToken, TokenError> {
        Err(TokenError::permanent("sealed"))
    }

    fn name(&self) -> Option<&str> {
        Some("vault")
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_has_its_own_name_or_that_of_its_source_and_keeps_the_first() {
    let mint = Mint::default();
    mint.fail_with(busy());
    assert_eq!(cache(mint.clone()).name(), None);
    assert_eq!(refused(&cache(mint)).await, "busy");
    assert_eq!(cache(Vault).name(), Some("vault"));
    assert_eq!(refused(&cache(Vault)).await, "vault: sealed");
    assert_eq!(refused(&cache(Vault).named("billing")).await, "billing: sealed");
    let named = cache(Vault).named("").named("billing");
    let again = named.clone().named("orders");
    assert_eq!((named.name(), again.name()), (Some("billing"), Some("billing")));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_cache_below_names_both() {
    let below = cache(Vault);
    let source = from_fn(move |_| {
        let below = below.clone();
        async move { Ok(below.get().await?.with_lifetime(Duration::from_secs(9))) }
    });
    assert_eq!(refused(&cache(source).named("billing")).await, "billing: vault: sealed");
}
