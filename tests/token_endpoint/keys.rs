//! What a key adds to the endpoint's settings, and whether a failure concerns one key or all.

use std::{
    future::ready,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tower_bearer::{
    AccessToken, KeyedTokenCache, Reason, Secret, Subject, TokenError, TokenKey, TokenRequest,
    TokenSource,
    oauth2::{BodyFormat, ClientAuth, EndpointErrorKind as Kind, TokenEndpoint, TokenExchange},
};

use super::support::{
    self, OK, Scripted, Step, answer, body_for, cause, client, fetch, fetch_for, kind, request_for,
    shown, subject, unsent_for,
};

const INVALID_GRANT: &str = r#"{"error":"invalid_grant"}"#;
const INVALID_CLIENT: &str = r#"{"error":"invalid_client"}"#;

// ===== What is sent =====

#[tokio::test]
async fn what_a_key_says_replaces_the_endpoints_own_and_the_rest_stays() {
    let builder = || {
        client()
            .scope("all")
            .audience("api")
            .resource("https://a.example/")
            .resource("https://b.example/")
            .param("tenant", "blue")
            .param("region", "eu")
            .secret_param("apikey", "hush")
    };
    let key = TokenKey::new();
    let own = "grant_type=client_credentials&scope=all&audience=api\
        &resource=https%3A%2F%2Fa.example%2F&resource=https%3A%2F%2Fb.example%2F\
        &tenant=blue&region=eu&apikey=hush";
    assert_eq!(body_for(&key, builder()).await, own);

    let key = TokenKey::new().scope("orders:read orders:write").param("region", "us");
    let body = "grant_type=client_credentials&audience=api\
        &resource=https%3A%2F%2Fa.example%2F&resource=https%3A%2F%2Fb.example%2F\
        &scope=orders%3Aread+orders%3Awrite&tenant=blue&region=us&apikey=hush";
    assert_eq!(body_for(&key, builder()).await, body);

    let key = TokenKey::new()
        .audience("other")
        .resource("https://c.example/")
        .resource("urn:d")
        .param("level", "2");
    let body = "grant_type=client_credentials&scope=all&audience=other\
        &resource=https%3A%2F%2Fc.example%2F&resource=urn%3Ad\
        &tenant=blue&region=eu&apikey=hush&level=2";
    assert_eq!(body_for(&key, builder()).await, body);
}

#[tokio::test]
async fn a_key_is_overlaid_in_json_too() {
    let builder = client().client_auth(ClientAuth::Body).body_format(BodyFormat::Json);
    let builder = builder.scope("all").resource("https://a.example").param("tenant", "blue");
    let key = TokenKey::new().resource("urn:b").resource("urn:c").param("tenant", "red");
    let body = r#"{"client_id":"my-app","client_secret":"hush-hush","grant_type":"client_credentials","resource":["urn:b","urn:c"],"scope":"all","tenant":"red"}"#;
    assert_eq!(body_for(&key, builder).await, body);
}

#[tokio::test]
async fn of_two_keys_in_turn_each_sends_its_own() {
    let service = Scripted::new([answer(200, OK), answer(200, OK), answer(200, OK)]);
    let endpoint = client().scope("all").transport(service.clone()).build().unwrap();
    for scope in ["a", "b"] {
        endpoint.fetch(request_for(&TokenKey::new().scope(scope))).await.unwrap();
    }
    fetch(&endpoint).await.unwrap();
    let scopes =
        ["a", "b", "all"].map(|scope| format!("grant_type=client_credentials&scope={scope}"));
    assert_eq!(service.bodies(), scopes);
}

// ===== What is not sent =====

#[tokio::test]
async fn an_unusable_key_is_an_error_that_names_what_is_wrong_with_it() {
    for (key, named) in [
        (TokenKey::new().scope("a\"b"), "`scope`"),
        (TokenKey::new().resource("no uri"), "`resource`"),
        (TokenKey::new().param("client_id", "another"), "`client_id`"),
        (TokenKey::new().param("grant_type", "password"), "`grant_type`"),
        (TokenKey::new().param("assertion", "x"), "`assertion`"),
    ] {
        let error = unsent_for(&key, client()).await;
        assert_eq!(*kind(&error), Kind::InvalidKey);
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[tokio::test]
async fn a_key_replaces_no_secret_parameter() {
    let key = TokenKey::new().param("apikey", "of-somebody-else");
    let builder = client().param("tenant", "blue").secret_param("apikey", "hush");
    let error = unsent_for(&key, builder).await;
    assert_eq!(*kind(&error), Kind::InvalidKey);
    assert!(error.to_string().contains("`apikey`"), "{error}");
    assert!(!shown(&error).contains("of-somebody-else"), "{error:?}");
}

#[tokio::test]
async fn a_user_never_gets_the_programs_own_token() {
    let key = TokenKey::new().scope("a").on_behalf_of(subject("alice-token"));
    for builder in [
        client(),
        client().refresh_token("rt-0"),
        client().grant_type("urn:example"),
        client().jwt_bearer("assertion"),
        client().token_exchange(TokenExchange::new().subject_token("of-the-program")),
    ] {
        let error = unsent_for(&key, builder).await;
        assert_eq!(*kind(&error), Kind::SubjectNotTaken);
        assert!(error.to_string().contains("`.token_exchange(..)`"), "{error}");
        assert!(!shown(&error).contains("alice-token"), "{error:?}");
    }
}

#[tokio::test]
async fn an_exchange_without_a_subject_is_an_error_that_says_so() {
    let builders =
        || [client().token_exchange(TokenExchange::new()), client().jwt_bearer_on_behalf_of()];
    for builder in builders() {
        let error = unsent_for(&TokenKey::new().scope("a"), builder).await;
        assert_eq!(*kind(&error), Kind::SubjectMissing);
        assert!(error.to_string().contains("`TokenKey::on_behalf_of(..)`"), "{error}");
    }
    for builder in builders() {
        let endpoint = builder.transport(Scripted::new([])).build().unwrap();
        assert_eq!(*kind(&fetch(&endpoint).await.unwrap_err()), Kind::SubjectMissing);
        assert!(!endpoint.recovered().await, "no secret could mend it");
    }
}

#[tokio::test]
async fn an_expired_subject_is_not_exchanged() {
    let token = AccessToken::new("alice-token").unwrap();
    let of = |expiry| {
        let subject = Subject::new(token.clone().with_expiry(expiry));
        TokenKey::new().on_behalf_of(subject)
    };
    let now = SystemTime::now();
    let builder = || client().token_exchange(TokenExchange::new());
    for expiry in [SystemTime::UNIX_EPOCH, now - Duration::from_secs(1), now] {
        let error = unsent_for(&of(expiry), builder()).await;
        assert_eq!(*kind(&error), Kind::SubjectExpired);
        assert!(!shown(&error).contains("alice-token"), "{error:?}");
    }
    body_for(&of(now + Duration::from_secs(3600)), builder()).await;
}

// ===== One refresh token for all keys =====

fn issued(token: &str, refresh_token: &str) -> String {
    format!(r#"{{"access_token":"{token}","refresh_token":"{refresh_token}"}}"#)
}

fn slow(token: &str, refresh_token: &str) -> Step {
    support::slow(Duration::from_secs(3), answer(200, issued(token, refresh_token)))
}

fn refreshing(steps: impl IntoIterator<Item = Step>) -> (TokenEndpoint, Scripted) {
    let service = Scripted::new(steps);
    let endpoint = client().refresh_token("rt-0").transport(service.clone()).build().unwrap();
    (endpoint, service)
}

fn refresh_body(refresh_token: &str, scope: &str) -> String {
    format!("grant_type=refresh_token&refresh_token={refresh_token}&scope={scope}")
}

#[tokio::test(start_paused = true)]
async fn keys_never_get_each_others_token_of_one_refresh_token() {
    let (endpoint, service) =
        refreshing([slow("at-a", "rt-1"), slow("at-b", "rt-2"), slow("at-c", "rt-3")]);
    let keys = ["a", "b", "c"].map(|scope| TokenKey::new().scope(scope));
    // Two fetches for each, all at once.
    let fetches = keys.iter().chain(&keys).map(|key| endpoint.fetch(request_for(key)));
    let tokens = futures_util::future::join_all(fetches).await;
    let tokens: Vec<_> = tokens.into_iter().map(Result::unwrap).collect();
    let bodies = service.bodies();
    for (at, body) in bodies.iter().enumerate() {
        let scope = body.rsplit('=').next().unwrap();
        assert_eq!(*body, refresh_body(&format!("rt-{at}"), scope));
    }
    let order: Vec<_> = bodies.iter().map(|body| body.rsplit('=').next().unwrap()).collect();
    for (token, scope) in tokens.iter().zip(["a", "b", "c"].iter().cycle()) {
        let nth = order.iter().position(|asked| asked == scope).unwrap();
        assert_eq!(token.secret(), ["at-a", "at-b", "at-c"][nth]);
    }
    assert_eq!((bodies.len(), service.most_at_once()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_fetch_was_given_up_serves_its_own_key_only() {
    let (endpoint, service) = refreshing([
        slow("at-a", "rt-1"),
        answer(200, issued("at-b", "rt-2")),
        answer(200, issued("at-a2", "rt-3")),
    ]);
    let [a, b] = ["a", "b"].map(|scope| request_for(&TokenKey::new().scope(scope)));
    let given_up = tokio::time::timeout(Duration::from_secs(1), endpoint.fetch(a.clone())).await;
    assert!(given_up.is_err());
    assert_eq!(endpoint.fetch(b).await.unwrap().secret(), "at-b");
    assert_eq!(endpoint.fetch(a).await.unwrap().secret(), "at-a2");
    let bodies = [("rt-0", "a"), ("rt-1", "b"), ("rt-2", "a")];
    assert_eq!(service.bodies(), bodies.map(|(token, scope)| refresh_body(token, scope)));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_nobody_waited_for_serves_the_next_fetch_of_its_key() {
    let (endpoint, service) = refreshing([slow("at-a", "rt-1")]);
    let request = request_for(&TokenKey::new().scope("a"));
    let fetch = endpoint.fetch(request.clone());
    assert!(tokio::time::timeout(Duration::from_secs(1), fetch).await.is_err());
    assert_eq!(endpoint.fetch(request).await.unwrap().secret(), "at-a");
    assert_eq!(service.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_of_another_key_that_fails_is_no_failure_of_this_one() {
    let refused =
        support::slow(Duration::from_secs(3), answer(400, r#"{"error":"invalid_scope"}"#));
    let (endpoint, _) = refreshing([refused, answer(200, issued("at-b", "rt-1"))]);
    let [a, b] = ["a", "b"].map(|scope| request_for(&TokenKey::new().scope(scope)));
    let (a, b) = futures_util::future::join(endpoint.fetch(a), endpoint.fetch(b)).await;
    assert_eq!(cause(&a.unwrap_err()).error(), Some("invalid_scope"));
    assert_eq!(b.unwrap().secret(), "at-b");
}

#[tokio::test]
async fn a_key_follows_the_chain_that_other_keys_went_on_with() {
    let (endpoint, service) = refreshing([
        answer(200, issued("at-a", "rt-1")),
        answer(200, issued("at-b", "rt-2")),
        answer(200, issued("at-a", "rt-3")),
    ]);
    let [a, b] = ["a", "b"].map(|scope| TokenKey::new().scope(scope));
    let of_a = endpoint.fetch(request_for(&a)).await.unwrap();
    endpoint.fetch(request_for(&b)).await.unwrap();
    let due = TokenRequest::new(Reason::Due).with_previous(of_a).with_key(a);
    endpoint.fetch(due).await.unwrap();
    let bodies = [("rt-0", "a"), ("rt-1", "b"), ("rt-2", "a")];
    assert_eq!(service.bodies(), bodies.map(|(token, scope)| refresh_body(token, scope)));
}

#[tokio::test]
async fn a_keyed_cache_over_one_refresh_token_has_a_token_for_each_key() {
    let (endpoint, service) = refreshing([
        answer(200, issued("at-a", "rt-1")),
        answer(200, issued("at-b", "rt-2")),
        answer(200, issued("at-own", "rt-3")),
    ]);
    let tokens = KeyedTokenCache::builder(endpoint).build().unwrap();
    let keys = [TokenKey::new().scope("a"), TokenKey::new().scope("b"), TokenKey::new()];
    for _ in 0..2 {
        for (key, expected) in keys.iter().zip(["at-a", "at-b", "at-own"]) {
            assert_eq!(tokens.get(key).await.unwrap().secret(), expected);
        }
    }
    assert_eq!(service.bodies()[2], "grant_type=refresh_token&refresh_token=rt-2");
}

// ===== Which keys a failure concerns =====

async fn failure(key: &TokenKey, exchange: bool, status: u16, body: &'static str) -> TokenError {
    let builder = if exchange { client().token_exchange(TokenExchange::new()) } else { client() };
    fetch_for(key, builder, answer(status, body)).await.1.unwrap_err()
}

#[tokio::test]
async fn a_failure_tells_whether_it_is_about_the_key_or_about_all_keys() {
    let scoped = TokenKey::new().scope("a");
    let user = scoped.clone().on_behalf_of(subject("alice-token"));
    // For a key with a scope, and for one with a subject.
    for (status, body, of_scope, of_subject) in [
        (400, r#"{"error":"invalid_scope"}"#, true, true),
        (400, r#"{"error":"invalid_target"}"#, true, true),
        (403, r#"{"error":"access_denied"}"#, true, true),
        (400, r#"{"error":"interaction_required"}"#, true, true),
        (400, r#"{"error":"consent_required"}"#, true, true),
        (400, r#"{"error":"login_required"}"#, true, true),
        (400, INVALID_GRANT, false, true),
        (400, r#"{"error":"invalid_request"}"#, true, true),
        (400, r#"{"error":"of_its_own"}"#, true, true),
        (401, INVALID_CLIENT, false, false),
        (400, INVALID_CLIENT, false, false),
        (401, "", false, false),
        (401, r#"{"error":"invalid_token"}"#, false, true),
        (403, "", true, true),
        (404, "", false, false),
        (404, r#"{"error":"invalid_target"}"#, true, true),
        (400, r#"{"error":"unauthorized_client"}"#, false, false),
        (400, r#"{"error":"unsupported_grant_type"}"#, false, false),
        (400, r#"{"error":"slow_down"}"#, false, false),
        (500, r#"{"error":"invalid_grant"}"#, false, false),
        (503, "", false, false),
        (429, INVALID_GRANT, false, false),
        (302, "", false, false),
        (200, "<html>", false, false),
        (200, "{}", false, false),
        (200, r#"{"access_token":"t","token_type":"DPoP"}"#, false, false),
    ] {
        let error = failure(&scoped, false, status, body).await;
        assert_eq!(error.concerns_key_only(), of_scope, "{error:?}");
        assert_eq!(cause(&error).concerns_key_only(), of_scope);
        let error = failure(&user, true, status, body).await;
        assert_eq!(error.concerns_key_only(), of_subject, "{error:?}");
    }
    let (_, outcome) =
        fetch_for(&user, client().token_exchange(TokenExchange::new()), support::refused()).await;
    assert!(!outcome.unwrap_err().concerns_key_only());
    let (_, outcome) =
        fetch_for(&scoped, client().client_secret(Secret::env("NOT-SET")), answer(200, OK)).await;
    assert!(!outcome.unwrap_err().concerns_key_only());
}

fn users() -> [TokenKey; 3] {
    ["alice", "bob", "eve"].map(|user| TokenKey::new().on_behalf_of(subject(user)))
}

fn exchanging(steps: impl IntoIterator<Item = Step>) -> (KeyedTokenCache, Scripted) {
    let service = Scripted::new(steps);
    let endpoint = client().token_exchange(TokenExchange::new()).transport(service.clone());
    (KeyedTokenCache::builder(endpoint.build().unwrap()).build().unwrap(), service)
}

#[tokio::test(start_paused = true)]
async fn a_user_whose_token_is_refused_keeps_nobody_else_from_theirs() {
    let refused = r#"{"error":"invalid_request","error_description":"subject token expired"}"#;
    let (tokens, service) = exchanging([answer(400, refused), answer(200, OK), answer(200, OK)]);
    let [alice, bob, eve] = users();
    assert_eq!(cause(&tokens.get(&alice).await.unwrap_err()).error(), Some("invalid_request"));
    tokens.get(&bob).await.unwrap();
    tokens.get(&alice).await.unwrap_err();
    tokens.get(&eve).await.unwrap();
    assert_eq!(service.seen().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_refused_is_refused_once_for_all_users() {
    let (tokens, service) = exchanging([answer(401, INVALID_CLIENT)]);
    for user in users() {
        let error = tokens.get(&user).await.unwrap_err();
        assert_eq!(cause(&error).error(), Some("invalid_client"));
    }
    assert_eq!(service.seen().len(), 1);
}

#[tokio::test]
async fn a_refresh_token_that_is_over_is_over_for_all_keys() {
    let (endpoint, _) = refreshing([answer(400, INVALID_GRANT)]);
    let error = endpoint.fetch(request_for(&TokenKey::new().scope("a"))).await.unwrap_err();
    assert!(!error.is_transient() && !error.concerns_key_only());
}

/// A client secret that reads anew from a list, and stays with the last.
fn secrets(values: &[&str]) -> Secret {
    let mut values: Vec<_> = values.iter().rev().map(|&value| value.to_owned()).collect();
    let last = values.remove(0);
    let values = Arc::new(Mutex::new(values));
    Secret::from_fn(move || ready(Ok(values.lock().unwrap().pop().unwrap_or(last.clone()))))
}

#[tokio::test(start_paused = true)]
async fn a_refused_subject_says_nothing_about_the_secrets_that_all_keys_share() {
    let service = Scripted::new([answer(400, INVALID_GRANT), answer(401, INVALID_CLIENT)]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "one").unwrap();
    let endpoint = client()
        .client_secret(Secret::file(file.path()))
        .token_exchange(TokenExchange::new())
        .transport(service.clone())
        .build()
        .unwrap();
    let [alice, bob] =
        ["alice", "bob"].map(|user| request_for(&TokenKey::new().on_behalf_of(subject(user))));
    endpoint.fetch(alice).await.unwrap_err();
    std::fs::write(file.path(), "two").unwrap();
    assert!(!endpoint.recovered().await, "another secret does not mend a user's token");
    // A refusal of the client is another matter.
    endpoint.fetch(bob).await.unwrap_err();
    std::fs::write(file.path(), "three").unwrap();
    assert!(endpoint.recovered().await);
}

#[tokio::test(start_paused = true)]
async fn a_refused_subject_is_not_tried_again_with_another_secret() {
    let service = Scripted::new([answer(400, INVALID_GRANT)]);
    let endpoint = client()
        .client_secret(secrets(&["one", "two"]))
        .token_exchange(TokenExchange::new())
        .transport(service.clone())
        .build()
        .unwrap();
    let alice = TokenKey::new().on_behalf_of(subject("alice"));
    endpoint.fetch(request_for(&alice)).await.unwrap_err();
    assert_eq!(service.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_secret_that_was_just_rotated_is_tried_at_once_for_the_same_key() {
    let service = Scripted::new([answer(401, INVALID_CLIENT), answer(200, OK)]);
    let endpoint = client()
        .client_auth(ClientAuth::Body)
        .client_secret(secrets(&["one", "two"]))
        .token_exchange(TokenExchange::new())
        .transport(service.clone())
        .build()
        .unwrap();
    let alice = TokenKey::new().scope("a").on_behalf_of(subject("alice"));
    endpoint.fetch(request_for(&alice)).await.unwrap();
    let bodies = service.bodies();
    assert_eq!(bodies[1], bodies[0].replace("=one&", "=two&"));
    assert_ne!(bodies[1], bodies[0]);
}
