//! Refresh tokens: rotated, stored, doubtful, lost; and what other grants do with them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tower_bearer::{
    AccessToken, Reason, Secret, TokenError, TokenRequest, TokenSource,
    oauth2::{EndpointErrorKind as Kind, TokenEndpoint, TokenEndpointBuilder, providers},
};

use super::support::{
    OK, Scripted, Step, answer, client, cut, fetch, fetch_with, kind, refused, shown,
};

const INVALID_GRANT: &str = r#"{"error":"invalid_grant"}"#;

fn rotated(refresh_token: &str) -> Step {
    answer(200, format!(r#"{{"access_token":"at","refresh_token":"{refresh_token}"}}"#))
}

fn refreshing(steps: impl IntoIterator<Item = Step>) -> (TokenEndpointBuilder, Scripted) {
    let service = Scripted::new(steps);
    (client().refresh_token("rt-0").transport(service.clone()), service)
}

async fn again(
    endpoint: &TokenEndpoint,
    previous: &AccessToken,
) -> Result<AccessToken, TokenError> {
    endpoint.fetch(TokenRequest::new(Reason::Due).with_previous(previous.clone())).await
}

/// The refresh tokens that were sent.
fn exchanged(service: &Scripted) -> Vec<String> {
    let bodies = service.bodies();
    bodies.iter().map(|body| body.rsplit('=').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_as_the_rfc_has_it() {
    let (builder, service) = refreshing([answer(200, OK)]);
    fetch(&builder.scope("a b").build().unwrap()).await.unwrap();
    let seen = service.seen().remove(0);
    assert_eq!(seen.body, "grant_type=refresh_token&refresh_token=rt-0&scope=a+b");
    assert_eq!(seen.header("authorization"), "Basic bXktYXBwOmh1c2gtaHVzaA==");
}

#[tokio::test]
async fn a_new_refresh_token_replaces_the_old_one_and_without_one_the_old_is_kept() {
    let (builder, service) = refreshing([rotated("rt-1"), answer(200, OK), rotated("rt-2")]);
    let endpoint = builder.build().unwrap();
    let first = fetch(&endpoint).await.unwrap();
    assert_eq!(first.refresh_token(), Some("rt-1"));
    let second = again(&endpoint, &first).await.unwrap();
    assert_eq!(second.refresh_token(), Some("rt-1"));
    let third = again(&endpoint, &second).await.unwrap();
    assert_eq!(third.refresh_token(), Some("rt-2"));
    assert_eq!(exchanged(&service), ["rt-0", "rt-1", "rt-1"]);
}

#[tokio::test]
async fn the_hook_has_each_new_refresh_token_once_and_a_program_can_wait_for_it() {
    let stored = Arc::new(Mutex::new(Vec::new()));
    let (builder, _) = refreshing([rotated("rt-1"), rotated("rt-1"), rotated("rt-2")]);
    let hook = {
        let stored = Arc::clone(&stored);
        move |token: zeroize::Zeroizing<String>| {
            let stored = Arc::clone(&stored);
            async move {
                tokio::task::yield_now().await;
                stored.lock().unwrap().push(token.to_string());
            }
        }
    };
    let endpoint = builder.on_new_refresh_token(hook).build().unwrap();
    endpoint.refresh_tokens_stored().await;
    let first = fetch(&endpoint).await.unwrap();
    endpoint.refresh_tokens_stored().await;
    assert_eq!(*stored.lock().unwrap(), ["rt-1"]);
    // The same one again is not a new one.
    let second = again(&endpoint, &first).await.unwrap();
    endpoint.refresh_tokens_stored().await;
    assert_eq!(*stored.lock().unwrap(), ["rt-1"]);
    again(&endpoint, &second).await.unwrap();
    endpoint.refresh_tokens_stored().await;
    assert_eq!(*stored.lock().unwrap(), ["rt-1", "rt-2"]);
}

#[tokio::test]
async fn a_hook_that_panics_costs_no_token() {
    let (builder, _) = refreshing([rotated("rt-1")]);
    let endpoint =
        builder.on_new_refresh_token(async |_| panic!("the disk is full")).build().unwrap();
    assert_eq!(fetch(&endpoint).await.unwrap().refresh_token(), Some("rt-1"));
}

#[tokio::test]
async fn an_exchange_that_may_have_arrived_is_repeated_once_and_at_once() {
    let no_answer = || {
        [
            cut(),
            answer(500, ""),
            answer(502, "<html>"),
            answer(200, ""),
            answer(200, "<html>"),
            answer(200, r#"{"access_token":"#),
            answer(200, "{}"),
        ]
    };
    for step in no_answer() {
        let (builder, service) = refreshing([step, rotated("rt-1")]);
        let token = fetch(&builder.build().unwrap()).await.unwrap();
        assert_eq!(token.refresh_token(), Some("rt-1"));
        assert_eq!(exchanged(&service), ["rt-0", "rt-0"]);
    }
    for step in no_answer() {
        let (builder, service) = refreshing([step, cut()]);
        let error = fetch(&builder.build().unwrap()).await.unwrap_err();
        assert!(!error.is_transient(), "the cache must not repeat it in addition");
        assert_eq!(service.seen().len(), 2);
    }
}

#[tokio::test]
async fn an_exchange_that_certainly_changed_nothing_is_not_repeated() {
    for (step, is_transient) in [
        (refused(), true),
        (answer(429, ""), true),
        (answer(400, r#"{"error":"slow_down"}"#), true),
        (answer(500, r#"{"error":"server_error"}"#), true),
        (answer(401, r#"{"error":"invalid_client"}"#), false),
        (answer(302, ""), false),
    ] {
        let (builder, service) = refreshing([step]);
        let error = fetch(&builder.build().unwrap()).await.unwrap_err();
        assert_eq!(error.is_transient(), is_transient, "{error}");
        assert_eq!(service.seen().len(), 1);
    }
}

#[tokio::test]
async fn an_unknown_outcome_followed_by_invalid_grant_is_a_kind_of_its_own() {
    let (builder, _) = refreshing([cut(), answer(400, INVALID_GRANT)]);
    let error = fetch(&builder.build().unwrap()).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::RefreshTokenLost);
    assert!(!error.is_transient() && !shown(&error).contains("rt-0"));

    let (builder, _) = refreshing([answer(400, INVALID_GRANT)]);
    let error = fetch(&builder.build().unwrap()).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::Refused, "nothing was lost: it was never good");
}

#[tokio::test]
async fn an_unknown_outcome_is_remembered_by_the_next_fetch() {
    let (builder, _) = refreshing([
        cut(),
        cut(),
        refused(),
        answer(400, INVALID_GRANT),
        answer(400, INVALID_GRANT),
    ]);
    let endpoint = builder.build().unwrap();
    fetch(&endpoint).await.unwrap_err();
    // What was never sent changes nothing about the doubt.
    assert_eq!(*kind(&fetch(&endpoint).await.unwrap_err()), Kind::Unreachable);
    assert_eq!(*kind(&fetch(&endpoint).await.unwrap_err()), Kind::RefreshTokenLost);
    // The service has spoken: from now on it is a plain refusal.
    assert_eq!(*kind(&fetch(&endpoint).await.unwrap_err()), Kind::Refused);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_dropped_in_the_middle_leaves_the_outcome_in_doubt() {
    let (builder, _) = refreshing([Step::Hang, answer(400, INVALID_GRANT)]);
    let endpoint = builder.build().unwrap();
    let fetching = fetch(&endpoint);
    assert!(futures_util::FutureExt::now_or_never(fetching).is_none());
    assert_eq!(*kind(&fetch(&endpoint).await.unwrap_err()), Kind::RefreshTokenLost);
}

#[tokio::test]
async fn an_exchange_that_takes_too_long_is_given_up_here_where_it_can_be_repeated() {
    tokio::time::pause();
    let (builder, service) = refreshing([Step::Hang, rotated("rt-1")]);
    let endpoint = builder.build().unwrap();
    // Two exchanges of ten seconds, and a little more.
    let fetch_takes = endpoint.attempt_timeout().unwrap();
    assert_eq!(fetch_takes, Duration::from_secs(21));
    let token = tokio::time::timeout(fetch_takes, fetch(&endpoint)).await.unwrap().unwrap();
    assert_eq!(token.refresh_token(), Some("rt-1"));
    assert_eq!(service.seen().len(), 2);
}

#[tokio::test]
async fn a_new_login_is_taken_up_once_the_last_refresh_token_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "login-1").unwrap();
    let service = Scripted::new([
        rotated("rt-1"),
        answer(400, INVALID_GRANT),
        answer(400, INVALID_GRANT),
        rotated("rt-2"),
    ]);
    let endpoint = client()
        .refresh_token(Secret::file(file.path()))
        .transport(service.clone())
        .build()
        .unwrap();
    let first = fetch(&endpoint).await.unwrap();
    // The login is spent: it is not tried after the refusal.
    again(&endpoint, &first).await.unwrap_err();
    assert_eq!(exchanged(&service), ["login-1", "rt-1"]);
    assert!(!endpoint.recovered().await);

    std::fs::write(file.path(), "login-2").unwrap();
    assert!(endpoint.recovered().await);
    // Not good either: no request is made twice for it.
    again(&endpoint, &first).await.unwrap_err();
    assert_eq!(exchanged(&service)[2..], ["login-2"]);
    assert!(!endpoint.recovered().await);

    std::fs::write(file.path(), "login-3").unwrap();
    assert!(endpoint.recovered().await);
    let token = again(&endpoint, &first).await.unwrap();
    assert_eq!(token.refresh_token(), Some("rt-2"));
    assert_eq!(exchanged(&service)[3..], ["login-3"]);
}

#[tokio::test]
async fn a_new_login_that_is_there_already_is_tried_at_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "login-1").unwrap();
    let service = Scripted::new([rotated("rt-1"), answer(400, INVALID_GRANT), rotated("rt-2")]);
    let builder = client().refresh_token(Secret::file(file.path()));
    let endpoint = builder.transport(service.clone()).build().unwrap();
    let first = fetch(&endpoint).await.unwrap();
    std::fs::write(file.path(), "login-2").unwrap();
    again(&endpoint, &first).await.unwrap();
    assert_eq!(exchanged(&service), ["login-1", "rt-1", "login-2"]);
}

#[tokio::test]
async fn a_refresh_token_that_no_grant_of_ours_can_use_is_dropped() {
    let body = r#"{"access_token":"t","refresh_token":"rt-9"}"#;
    let jwt_bearer = || TokenEndpoint::builder(super::support::URL).grant_type("urn:x");
    // RFC 6749 §4.3.3 lets the service send one, but the password is what is sent again.
    let password = client().grant_type("password").param("username", "u");
    for builder in [client(), providers::ibm_cloud("key"), jwt_bearer(), password] {
        let token = fetch_with(builder, answer(200, body)).await.unwrap();
        assert_eq!(token.refresh_token(), None);
    }
}

#[tokio::test]
async fn what_an_answer_has_settled_is_no_longer_in_doubt() {
    let (builder, _) = refreshing([cut(), answer(200, OK), answer(400, INVALID_GRANT)]);
    let endpoint = builder.build().unwrap();
    let token = fetch(&endpoint).await.unwrap();
    let error = again(&endpoint, &token).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::Refused);
}

#[tokio::test]
async fn of_two_grants_the_last_one_counts() {
    let builder = || client().refresh_token("rt-0").grant_type("urn:x").refresh_token("rt-1");
    let seen = super::support::sent(builder()).await;
    assert_eq!(seen.body, "grant_type=refresh_token&refresh_token=rt-1");
    let seen = super::support::sent(builder().grant_type("urn:x")).await;
    assert_eq!(seen.body, "grant_type=urn%3Ax");
}

#[test]
fn a_refresh_token_is_not_sent_by_any_number_of_processes_at_once() {
    let endpoint = || TokenEndpoint::builder("https://auth.example.com/token").client_id("a");
    let is_repeatable = |endpoint: TokenEndpointBuilder| {
        let service = Scripted::new([]);
        TokenSource::is_repeatable(&endpoint.transport(service).build().unwrap())
    };
    assert!(is_repeatable(endpoint().client_secret("b")));
    assert!(!is_repeatable(endpoint().refresh_token("b")));
}
