//! Secrets that change, or cannot be read.

use std::{
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use tokio::time::Instant;
use tower_bearer::{
    BoxError, Secret, TokenCache, TokenSource,
    oauth2::{ClientAuth, EndpointErrorKind as Kind, TokenEndpoint, providers},
};

use super::support::{OK, Scripted, answer, client, fetch, kind, slow};

const S: Duration = Duration::from_secs(1);
const INVALID_CLIENT: &str = r#"{"error":"invalid_client"}"#;

/// A secret that the test turns.
#[derive(Clone)]
struct Turning(Arc<Mutex<Result<String, String>>>);

impl Turning {
    fn new(value: &str) -> Self {
        Self(Arc::new(Mutex::new(Ok(value.to_owned()))))
    }

    fn turn(&self, value: Result<&str, &str>) {
        *self.0.lock().unwrap() = value.map(str::to_owned).map_err(str::to_owned);
    }

    fn secret(&self) -> Secret {
        let this = self.clone();
        Secret::from_fn(move || ready(this.0.lock().unwrap().clone().map_err(BoxError::from)))
    }
}

/// A secret that reads one value after the other, and stays with the last.
fn sequence(values: &'static [&'static str]) -> Secret {
    let reads = AtomicUsize::new(0);
    Secret::from_fn(move || {
        let at = reads.fetch_add(1, Ordering::Relaxed).min(values.len() - 1);
        ready(Ok(values[at].to_owned()))
    })
}

fn in_body(secret: Secret, service: &Scripted) -> TokenEndpoint {
    let builder = client().client_auth(ClientAuth::Body).client_secret(secret);
    builder.transport(service.clone()).build().unwrap()
}

fn secrets_sent(service: &Scripted) -> Vec<String> {
    let bodies = service.bodies();
    bodies.iter().map(|body| body.rsplit('=').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_secret_is_read_for_each_fetch() {
    let service = Scripted::new([answer(200, OK), answer(200, OK)]);
    let endpoint = in_body(sequence(&["one", "two"]), &service);
    fetch(&endpoint).await.unwrap();
    fetch(&endpoint).await.unwrap();
    assert_eq!(secrets_sent(&service), ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_was_just_rotated_is_tried_at_once() {
    for (status, body) in [(400, INVALID_CLIENT), (401, ""), (403, ""), (200, INVALID_CLIENT)] {
        let service = Scripted::new([answer(status, body), answer(200, OK)]);
        let endpoint = in_body(sequence(&["old", "new"]), &service);
        assert_eq!(fetch(&endpoint).await.unwrap().secret(), "at-1");
        assert_eq!(secrets_sent(&service), ["old", "new"]);
        assert!(!endpoint.recovered().await);
    }
}

#[tokio::test]
async fn a_secret_that_has_not_changed_is_not_tried_again() {
    let service = Scripted::new([answer(401, INVALID_CLIENT)]);
    let error = fetch(&in_body(Secret::new("old"), &service)).await.unwrap_err();
    assert!(!error.is_transient());
    assert_eq!(service.seen().len(), 1);
}

#[tokio::test]
async fn what_may_pass_by_itself_is_left_to_the_cache() {
    let service = Scripted::new([answer(503, "")]);
    fetch(&in_body(sequence(&["one", "two"]), &service)).await.unwrap_err();
    assert_eq!(service.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rotated_api_key_is_tried_at_once_though_ibm_says_400() {
    let body =
        r#"{"errorCode":"BXNIM0415E","errorMessage":"Provided API key could not be found."}"#;
    let service = Scripted::new([answer(400, body), answer(200, OK)]);
    let builder = providers::ibm_cloud(sequence(&["old", "new"]));
    fetch(&builder.transport(service.clone()).build().unwrap()).await.unwrap();
    assert_eq!(secrets_sent(&service), ["old", "new"]);
}

#[tokio::test]
async fn a_changed_secret_ends_the_cooldown_after_a_permanent_failure() {
    let turning = Turning::new("old");
    let service = Scripted::new([answer(401, INVALID_CLIENT), answer(200, OK)]);
    let endpoint = in_body(turning.secret(), &service);
    assert!(!endpoint.recovered().await);
    fetch(&endpoint).await.unwrap_err();
    assert!(!endpoint.recovered().await);
    turning.turn(Err("sealed"));
    assert!(!endpoint.recovered().await);
    turning.turn(Ok("new"));
    assert!(endpoint.recovered().await);
    fetch(&endpoint).await.unwrap();
    assert!(!endpoint.recovered().await);
    assert_eq!(service.seen().len(), 2, "asking costs no request");
}

/// A secret that a function makes of the time and of how often it was read.
fn made(make: impl Fn(Duration, usize) -> String + Send + Sync + 'static) -> Secret {
    let (begin, reads) = (Instant::now(), AtomicUsize::new(0));
    Secret::from_fn(move || ready(Ok(make(begin.elapsed(), reads.fetch_add(1, Ordering::Relaxed)))))
}

/// An assertion as a client signs it: with a date, an id, and another signature each time.
fn assertion(now: Duration, reads: usize, key: &str) -> String {
    let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(serde_json::json!({"alg": "ES256", "kid": key}));
    let (iat, exp) = (now.as_secs(), now.as_secs() + 60);
    let claims = part(serde_json::json!(
        {"iss": "my-app", "sub": "my-app", "jti": reads, "iat": iat, "exp": exp}
    ));
    format!("{header}.{claims}.c2lnbmF0dXJl{reads}")
}

/// Every way in which a secret may differ from reading to reading without having changed.
fn restless() -> [(&'static str, Secret); 5] {
    [
        ("an assertion with a date and an id", made(|now, reads| assertion(now, reads, "k"))),
        ("an assertion with a date in seconds", made(|now, _| assertion(now, 0, "k"))),
        ("a number used once", made(|_, reads| format!("nonce-{reads}"))),
        ("a date in seconds", made(|now, _| format!("date-{}", now.as_secs()))),
        ("a date in milliseconds", made(|now, _| format!("date-{}", now.as_millis()))),
    ]
}

/// Refuses each request after this time.
fn refusing(time: Duration) -> Scripted {
    Scripted::always(move |_| slow(time, answer(401, INVALID_CLIENT)))
}

/// How many exchanges a cache makes in this many seconds, with one caller each second.
async fn exchanges(secret: Secret, exchange: Duration, seconds: u32) -> usize {
    let service = refusing(exchange);
    let cache = TokenCache::new(in_body(secret, &service));
    let end = Instant::now() + seconds * S;
    while Instant::now() < end {
        cache.get().await.unwrap_err();
        tokio::time::sleep(S).await;
    }
    service.seen().len()
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_cools_down_whatever_its_secrets_look_like() {
    for exchange in [Duration::ZERO, S / 5, 3 * S] {
        // At once, after 30 s, a minute, two, four, and then every five minutes.
        let fixed = exchanges(Secret::new("hush"), exchange, 3600).await;
        assert!((12..=20).contains(&fixed), "{fixed}");
        for (what, secret) in restless() {
            let made = exchanges(secret, exchange, 3600).await;
            // The pauses are jittered; and one refusal may be mistaken once.
            assert!(made <= fixed + 4, "{what}, {exchange:?}: {made}, not {fixed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_changes_for_real_and_is_never_right_costs_a_bounded_number_of_exchanges() {
    let fixed = exchanges(Secret::new("hush"), Duration::ZERO, 3600).await;
    // It keeps still for ten seconds, for a minute: nobody can tell that from a rotation.
    for stays in [10, 60] {
        let rotated = made(move |now, _| format!("number-{}", now.as_secs() / stays));
        let made = exchanges(rotated, Duration::ZERO, 3600).await;
        assert!(made <= 3 * fixed, "{stays}: {made}, not {fixed}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_owned();
    std::fs::write(&path, "0").unwrap();
    let service = refusing(Duration::ZERO);
    let builder = client().client_secret(Secret::file(&path));
    let endpoint = builder.transport(service.clone()).build().unwrap();
    let mut early = 0;
    for at in 0..600 {
        std::fs::write(&path, at.to_string()).unwrap();
        if at == 0 || endpoint.recovered().await {
            fetch(&endpoint).await.unwrap_err();
            early += 1;
        }
        tokio::time::advance(S).await;
    }
    // At once, twice early, then after 30 s, a minute, two, four.
    assert!(early <= 7, "{early}");
    assert_eq!(service.seen().len(), early);
}

#[tokio::test]
async fn a_success_gives_the_early_tries_back() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "0").unwrap();
    let refuse = || answer(401, INVALID_CLIENT);
    let series = || [refuse(), refuse(), answer(200, OK)];
    let service = Scripted::new(series().into_iter().chain(series()).chain(series()));
    let endpoint = in_body(Secret::file(file.path()), &service);
    for series in 0..3 {
        for fails in [true, true, false] {
            assert_eq!(fetch(&endpoint).await.is_err(), fails);
            let next = format!("{series} {}", service.seen().len());
            std::fs::write(file.path(), next).unwrap();
            assert_eq!(endpoint.recovered().await, fails);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_what_is_made_for_each_exchange_is_sent_once() {
    for exchange in [Duration::ZERO, S / 5, S, 3 * S] {
        for (what, secret) in restless() {
            let service = refusing(exchange);
            let builder = client().client_secret(secret);
            let endpoint = builder.transport(service.clone()).build().unwrap();
            fetch(&endpoint).await.unwrap_err();
            assert_eq!(service.seen().len(), 1, "{what}, {exchange:?}");
            assert!(!endpoint.recovered().await, "{what}, {exchange:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_assertion_by_another_key_is_a_change_and_one_with_another_date_is_none() {
    let key = Arc::new(Mutex::new("one"));
    let signing = Arc::clone(&key);
    let secret = made(move |now, reads| assertion(now, reads, *signing.lock().unwrap()));
    let service = Scripted::new([answer(401, INVALID_CLIENT), answer(200, OK)]);
    let endpoint = in_body(secret, &service);
    fetch(&endpoint).await.unwrap_err();
    for _ in 0..3 {
        tokio::time::advance(S).await;
        assert!(!endpoint.recovered().await);
    }
    *key.lock().unwrap() = "two";
    assert!(endpoint.recovered().await);
    fetch(&endpoint).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_changed_before_the_first_check_counts_once_it_stays_the_same() {
    let turning = Turning::new("old");
    let service = Scripted::new([answer(401, INVALID_CLIENT), answer(200, OK)]);
    let endpoint = in_body(turning.secret(), &service);
    fetch(&endpoint).await.unwrap_err();
    turning.turn(Ok("new"));
    assert!(!endpoint.recovered().await, "it may be a date");
    tokio::time::advance(S).await;
    assert!(endpoint.recovered().await);
    fetch(&endpoint).await.unwrap();
}

#[tokio::test]
async fn a_vault_that_fails_after_a_refusal_is_no_change_once_it_is_back() {
    let turning = Turning::new("old");
    let seal = turning.clone();
    let service = Scripted::always(move |_| {
        seal.turn(Err("sealed"));
        answer(401, "")
    });
    let builder = client().client_secret(turning.secret()).transport(service);
    let endpoint = builder.build().unwrap();
    fetch(&endpoint).await.unwrap_err();
    turning.turn(Ok("old"));
    assert!(!endpoint.recovered().await);
    turning.turn(Ok("new"));
    assert!(endpoint.recovered().await);
}

#[tokio::test]
async fn a_file_that_is_rewritten_with_the_same_length_is_a_change() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "secret-1").unwrap();
    let service = Scripted::new([answer(401, INVALID_CLIENT), answer(200, OK)]);
    let endpoint = in_body(Secret::file(file.path()), &service);
    fetch(&endpoint).await.unwrap_err();
    assert!(!endpoint.recovered().await);
    let modified = file.as_file().metadata().unwrap().modified().unwrap();
    std::fs::write(file.path(), "secret-2").unwrap();
    // Not even its time need tell.
    file.as_file().set_modified(modified).unwrap();
    assert!(endpoint.recovered().await);
    fetch(&endpoint).await.unwrap();
    assert_eq!(secrets_sent(&service), ["secret-1", "secret-2"]);
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_named_and_nothing_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("client-secret");
    let service = Scripted::new([answer(200, OK)]);
    let endpoint = in_body(Secret::file(&path), &service);
    let error = fetch(&endpoint).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::Credential);
    assert!(!error.is_transient() && error.to_string().contains("client-secret"), "{error}");
    assert!(service.seen().is_empty());

    assert!(!endpoint.recovered().await);
    std::fs::write(&path, "mounted\n").unwrap();
    assert!(endpoint.recovered().await);
    fetch(&endpoint).await.unwrap();
    assert_eq!(secrets_sent(&service), ["mounted"]);
}

#[tokio::test]
async fn a_header_that_is_a_secret_is_read_for_each_fetch_and_marked_as_sensitive() {
    let service = Scripted::new([answer(200, OK), answer(200, OK)]);
    let builder = client().header("x-tenant", "blue").header("x-key", sequence(&["one", "two"]));
    let endpoint = builder.transport(service.clone()).build().unwrap();
    fetch(&endpoint).await.unwrap();
    fetch(&endpoint).await.unwrap();
    let seen = service.seen();
    assert_eq!((seen[0].header("x-key"), seen[1].header("x-key")), ("one", "two"));
    assert_eq!(seen[1].header("x-tenant"), "blue");
    assert!(seen.iter().all(|seen| seen.headers["x-key"].is_sensitive()));
}

#[tokio::test(start_paused = true)]
async fn a_header_that_was_just_rotated_is_tried_at_once() {
    let service = Scripted::new([answer(401, ""), answer(200, OK)]);
    let builder = client().header("x-key", sequence(&["old", "new"]));
    fetch(&builder.transport(service.clone()).build().unwrap()).await.unwrap();
    assert_eq!(service.seen()[1].header("x-key"), "new");
}

#[tokio::test]
async fn a_secret_that_no_header_may_carry_is_named_and_nothing_is_sent() {
    let service = Scripted::default();
    let builder = client().header("x-key", Secret::from_fn(async || Ok("hush\r\nx: y".to_owned())));
    let error = fetch(&builder.transport(service.clone()).build().unwrap()).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::Credential);
    let shown = super::support::shown(&error);
    assert!(shown.contains("no header may carry") && !shown.contains("hush"), "{shown}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_vault_that_is_down_may_come_back() {
    let turning = Turning::new("one");
    turning.turn(Err("sealed"));
    let service = Scripted::default();
    let error = fetch(&in_body(turning.secret(), &service)).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("sealed"), "{error}");
}

#[tokio::test]
async fn only_a_permanent_failure_is_waited_out_for_a_changed_secret() {
    let turning = Turning::new("one");
    let service = Scripted::new([answer(503, ""), answer(200, OK)]);
    let endpoint = in_body(turning.secret(), &service);
    for changed in ["two", "three"] {
        let _ = fetch(&endpoint).await;
        turning.turn(Ok(changed));
        assert!(!endpoint.recovered().await);
    }
}

/// Promise 14, with a cache above: a cooldown of 30 s ends early when the secret has changed.
#[tokio::test(start_paused = true)]
async fn a_changed_secret_ends_the_cooldown_early() {
    let turning = Turning::new("old");
    let service = Scripted::new([answer(401, INVALID_CLIENT), answer(200, OK)]);
    let cache = TokenCache::new(in_body(turning.secret(), &service));
    cache.get().await.unwrap_err();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(cache.get().await.unwrap_err().to_string().contains("invalid_client"));
    }
    // Whether something has changed is asked in the background: let the last question pass.
    tokio::time::sleep(Duration::from_secs(1)).await;
    turning.turn(Ok("new"));
    cache.get().await.unwrap_err();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(cache.get().await.unwrap().secret(), "at-1");
    assert_eq!(secrets_sent(&service), ["old", "new"]);
}
