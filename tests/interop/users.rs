//! Users on whose behalf calls are made: each has a token of their own, by token exchange
//! (RFC 8693).

use tokio::task::JoinSet;
use tower_bearer::{
    AccessToken, KeyedTokenCache, Reason, Subject, TokenError, TokenKey, TokenRequest,
    oauth2::{EndpointErrorKind as Kind, TokenEndpoint, TokenExchange},
};

use crate::{
    load::Figures,
    servers::{endpoint, forget, present, secret_of, seen, strangers, visit},
    stack::{Caller, refusal},
};

const ORDERS: &str = "https://api.example.com/orders";
const BILLING: &str = "https://api.example.com/billing";

fn exchange(id: &str) -> TokenEndpoint {
    endpoint(id, &secret_of(id)).token_exchange(TokenExchange::new()).build().unwrap()
}

async fn fetch(endpoint: &TokenEndpoint, key: &TokenKey) -> Result<AccessToken, TokenError> {
    endpoint.fetch(TokenRequest::new(Reason::First).with_key(key.clone())).await
}

// ===== The endpoint alone =====

#[tokio::test]
async fn each_key_gets_the_token_of_its_user_and_its_api() {
    let endpoint = exchange("gateway");
    let before = strangers().await;
    let mut orders_of = Vec::new();
    for user in ["alice", "bob"] {
        let subject = visit(user).await;
        let key = |resource| TokenKey::new().resource(resource).on_behalf_of(subject.clone());
        let orders = fetch(&endpoint, &key(ORDERS)).await.unwrap();
        let billing = fetch(&endpoint, &key(BILLING)).await.unwrap();
        assert_eq!(present(&orders, "/orders", user).await, 200);
        assert_eq!(present(&billing, "/billing", user).await, 200);
        orders_of.push(orders);
    }
    assert_eq!(strangers().await, before);
    // The API does find out.
    assert_eq!(present(&orders_of[0], "/orders", "bob").await, 401);
    assert_eq!(present(&orders_of[0], "/billing", "alice").await, 401);
    assert_eq!(strangers().await, before + 2);
}

#[tokio::test]
async fn the_error_for_an_unknown_user_or_api_has_the_servers_code() {
    let endpoint = exchange("gateway");
    let unknown = Subject::new(AccessToken::new("unknown").unwrap());
    for (key, code) in [
        (TokenKey::new().resource(ORDERS).on_behalf_of(unknown), "invalid_request"),
        (TokenKey::new().resource("urn:x").on_behalf_of(visit("alice").await), "invalid_target"),
    ] {
        let error = fetch(&endpoint, &key).await.unwrap_err();
        assert!(!error.is_transient() && error.concerns_key_only(), "{error}");
        assert_eq!(refusal(&error).error(), Some(code));
    }
}

#[tokio::test]
async fn a_client_that_is_not_known_is_no_failure_of_one_user() {
    let endpoint = endpoint("gateway", "wrong").token_exchange(TokenExchange::new());
    let key = TokenKey::new().resource(ORDERS).on_behalf_of(visit("alice").await);
    let error = fetch(&endpoint.build().unwrap(), &key).await.unwrap_err();
    assert!(!error.is_transient() && !error.concerns_key_only(), "{error}");
    assert_eq!(refusal(&error).error(), Some("invalid_client"));
}

#[tokio::test]
async fn the_program_has_no_token_of_its_own_for_a_user() {
    let endpoint = endpoint("basic", "basic-secret").build().unwrap();
    let key = TokenKey::new().on_behalf_of(visit("alice").await);
    let error = fetch(&endpoint, &key).await.unwrap_err();
    assert_eq!(refusal(&error).kind(), &Kind::SubjectNotTaken);
}

// ===== Under load =====

const USERS: usize = 200;
const CALLS: usize = 50;
/// Before so many of a user's calls the token is revoked: two of twenty, one at each API.
const REVOKED: usize = USERS * CALLS / 10;

/// All calls of one user, by turns to both APIs.
async fn day_of(user: String, tokens: KeyedTokenCache, callers: [Caller; 2]) -> Figures {
    let subject = visit(&user).await;
    let keys = [ORDERS, BILLING]
        .map(|resource| TokenKey::new().resource(resource).on_behalf_of(subject.clone()));
    let apis: Vec<_> = keys.iter().zip(&callers).collect();
    let mut figures = Figures::default();
    for nth in 0..CALLS {
        let (key, caller) = apis[nth % apis.len()];
        if [9, 18].contains(&(nth % 20)) {
            forget(&tokens.cache(key).current().expect("it was used before")).await;
        }
        figures.add(caller.call_for(key, &user).await.ok());
    }
    figures
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_users_whose_tokens_are_revoked_never_get_each_others() {
    let before = strangers().await;
    let tokens = KeyedTokenCache::builder(exchange("crowded")).capacity(10_000).build().unwrap();
    let callers = ["/orders", "/billing"].map(|path| Caller::for_users(&tokens, path));
    let mut users = JoinSet::new();
    for nth in 0..USERS {
        users.spawn(day_of(format!("user-{nth}"), tokens.clone(), callers.clone()));
    }
    let mut figures = Figures::default();
    for of_user in users.join_all().await {
        figures.extend(of_user);
    }
    let fetches = seen("crowded").await.granted;
    figures.report("200 users, 2 APIs, 1,000 revocations", fetches);
    figures.assert_none_failed();
    assert_eq!(strangers().await, before, "calls with a token of another user or API");
    assert_eq!((figures.calls(), figures.replays()), (USERS * CALLS, REVOKED));
    assert_eq!(fetches, (2 * USERS + REVOKED) as u64);
}
