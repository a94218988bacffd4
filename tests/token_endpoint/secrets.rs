//! Secrets that change, or cannot be read.

use std::{
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tower_bearer::{
    BoxError, Secret, TokenCache, TokenSource,
    oauth2::{ClientAuth, EndpointErrorKind as Kind, TokenEndpoint, providers},
};

use super::support::{OK, Scripted, URL, answer, client, fetch, kind};

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
async fn a_secret_is_read_anew_for_each_fetch() {
    let service = Scripted::new([answer(200, OK), answer(200, OK)]);
    let endpoint = in_body(sequence(&["one", "two"]), &service);
    fetch(&endpoint).await.unwrap();
    fetch(&endpoint).await.unwrap();
    assert_eq!(secrets_sent(&service), ["one", "two"]);
}

#[tokio::test]
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

#[tokio::test]
async fn a_rotated_api_key_is_tried_at_once_though_ibm_says_400() {
    let body =
        r#"{"errorCode":"BXNIM0415E","errorMessage":"Provided API key could not be found."}"#;
    let service = Scripted::new([answer(400, body), answer(200, OK)]);
    let builder = providers::ibm_cloud(sequence(&["old", "new"]));
    fetch(&builder.transport(service.clone()).build().unwrap()).await.unwrap();
    assert_eq!(secrets_sent(&service), ["old", "new"]);
}

#[tokio::test]
async fn a_changed_secret_ends_the_rest_after_a_permanent_failure() {
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

#[tokio::test]
async fn a_secret_that_reads_differently_each_time_ends_no_rest() {
    let count = AtomicUsize::new(0);
    let restless = Secret::from_fn(move || {
        ready(Ok(format!("jwt-{}", count.fetch_add(1, Ordering::Relaxed))))
    });
    let service = Scripted::new([answer(401, INVALID_CLIENT), answer(401, INVALID_CLIENT)]);
    let endpoint = in_body(restless, &service);
    fetch(&endpoint).await.unwrap_err();
    assert_eq!(service.seen().len(), 2, "two requests at most");
    assert!(!endpoint.recovered().await);
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
async fn a_header_that_is_a_secret_is_read_anew_for_each_fetch_and_marked_as_sensitive() {
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

#[tokio::test]
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
async fn a_projected_workload_token_is_read_from_its_file_for_each_fetch() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let service = Scripted::new([answer(200, OK), answer(200, OK)]);
    let endpoint = TokenEndpoint::builder(URL)
        .client_id("my-app")
        .client_auth(ClientAuth::None)
        .param("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
        .secret_param("client_assertion", Secret::file(file.path()))
        .transport(service.clone())
        .build()
        .unwrap();
    for assertion in ["eyJ.one", "eyJ.two"] {
        std::fs::write(file.path(), assertion).unwrap();
        fetch(&endpoint).await.unwrap();
    }
    assert_eq!(secrets_sent(&service), ["eyJ.one", "eyJ.two"]);
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

/// Promise 14, with the cache above: nobody has to wait 30 s after mending the secret.
#[tokio::test(start_paused = true)]
async fn a_changed_secret_ends_the_rest_early() {
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
