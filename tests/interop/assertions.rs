//! Clients that prove who they are (RFC 7523 §2.2). The server takes an assertion once, and only
//! one that is for its issuer alone.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;
use tower_bearer::{
    BoxError, Reason, RefreshPolicy, Secret, TokenCache, TokenRequest,
    oauth2::{
        Audience, ClientAssertion, EndpointErrorKind as Kind, ReqwestService,
        SigningAlgorithm as Algorithm, TokenEndpoint, TokenEndpointBuilder,
    },
};

use crate::{
    load::Load,
    servers::{endpoint_of, http, login, lose_next_answer, seen, set_clock_ahead, setting},
    stack::{Caller, refusal, until},
};

pub(crate) const SHARED: &str = "a-secret-of-at-least-sixty-four-bytes-which-is-what-hs512-needs!";

pub(crate) fn key_file(name: &str) -> PathBuf {
    Path::new(&setting("KEYS")).join(name)
}

fn private_key(name: &str) -> ClientAssertion {
    for_issuer(ClientAssertion::private_key(Secret::file(key_file(name))))
}

/// The issuer of the server is its origin.
fn for_issuer(assertion: ClientAssertion) -> ClientAssertion {
    assertion.issuer(setting("AUTH"))
}

fn proven(id: &str, assertion: ClientAssertion) -> TokenEndpointBuilder {
    endpoint_of(id).client_assertion(assertion)
}

async fn is_taken(id: &str, assertion: ClientAssertion, algorithm: &str) {
    let endpoint = proven(id, assertion).build().unwrap();
    let cache = TokenCache::new(endpoint);
    Caller::new(&cache).succeed().await;
    assert_eq!(seen(id).await.auth.as_deref(), Some(algorithm));
}

#[tokio::test]
async fn private_key_jwt_is_taken_by_rsa() {
    is_taken("rsa", private_key("rsa.pem"), "RS256").await;
    is_taken("rsa", private_key("rsa.pkcs1.pem").algorithm(Algorithm::Rs384), "RS384").await;
    is_taken("rsa", private_key("rsa.jwk.json").algorithm(Algorithm::Rs512), "RS512").await;
    is_taken("rsa", private_key("rsa.pem").algorithm(Algorithm::Ps256), "PS256").await;
    is_taken("rsa", private_key("rsa.pem").algorithm(Algorithm::Ps384), "PS384").await;
    is_taken("rsa", private_key("rsa.pem").algorithm(Algorithm::Ps512), "PS512").await;
    let certified = private_key("rsa.pem").certificate(Secret::file(key_file("rsa.crt.pem")));
    is_taken("rsa", certified, "RS256").await;
}

#[tokio::test]
async fn private_key_jwt_is_taken_by_curves() {
    is_taken("p256", private_key("p256.pem").key_id("p256-1"), "ES256").await;
    is_taken("p256", private_key("p256.sec1.pem"), "ES256").await;
    is_taken("p256", private_key("p256.jwk.json"), "ES256").await;
    is_taken("p384", private_key("p384.pem"), "ES384").await;
    is_taken("ed25519", private_key("ed25519.pem"), "EdDSA").await;
    is_taken("ed25519", private_key("ed25519.jwk.json"), "EdDSA").await;
}

#[tokio::test]
async fn client_secret_jwt_is_taken() {
    let shared = || for_issuer(ClientAssertion::client_secret(SHARED));
    is_taken("shared", shared(), "HS256").await;
    is_taken("shared", shared().algorithm(Algorithm::Hs384), "HS384").await;
    is_taken("shared", shared().algorithm(Algorithm::Hs512), "HS512").await;
}

async fn refused(endpoint: TokenEndpoint) -> String {
    let error = endpoint.fetch(TokenRequest::new(Reason::First)).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    assert_eq!(refusal(&error).kind(), &Kind::Refused);
    assert_eq!(refusal(&error).error(), Some("invalid_client"));
    error.to_string()
}

#[tokio::test]
async fn an_assertion_for_somebody_else_is_refused() {
    let url = ClientAssertion::private_key(Secret::file(key_file("p256.pem")));
    refused(proven("strict", url.clone().audience(Audience::TokenEndpoint)).build().unwrap()).await;
    let other = url.issuer("https://another.example.com");
    refused(proven("strict", other).build().unwrap()).await;
    let key = private_key("p384.pem");
    refused(proven("strict", key).build().unwrap()).await;
    let seen = seen("strict").await;
    assert_eq!((seen.granted, seen.refused.len()), (0, 3));
    assert_eq!(seen.refused[0], "not for the issuer");
}

#[tokio::test]
async fn an_assertion_that_is_sent_again_is_refused_and_each_exchange_has_its_own() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&bodies);
    let client = ReqwestService::new(http().build().unwrap());
    let service = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let (client, notes) = (client.clone(), Arc::clone(&notes));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            notes.lock().unwrap().push(String::from_utf8(body.to_vec())?);
            Ok::<_, BoxError>(client.oneshot(Request::from_parts(head, Full::new(body))).await?)
        }
    });
    let endpoint = proven("once", private_key("p256.pem")).transport(service).build().unwrap();
    for _ in 0..3 {
        endpoint.fetch(TokenRequest::new(Reason::First)).await.unwrap();
    }
    let sent = bodies.lock().unwrap().remove(0);
    let sent = sent.rsplit_once("client_assertion=").unwrap().1.to_owned();
    refused(proven("once", ClientAssertion::token(sent)).build().unwrap()).await;
    let seen = seen("once").await;
    assert_eq!(seen.granted, 3);
    assert_eq!(seen.refused, ["client assertion tokens must only be used once"]);
}

#[tokio::test]
async fn a_refresh_whose_answer_was_lost_is_repeated_with_an_assertion_of_its_own() {
    let endpoint = proven("proven", private_key("p256.pem")).refresh_token(login("proven").await);
    let endpoint = endpoint.build().unwrap();
    endpoint.fetch(TokenRequest::new(Reason::First)).await.unwrap();
    lose_next_answer().await;
    let error = endpoint.fetch(TokenRequest::new(Reason::First)).await.unwrap_err();
    // Its client was let in again; that the refresh token is spent is another matter.
    assert_eq!(refusal(&error).error(), Some("invalid_grant"), "{error}");
    let seen = seen("proven").await;
    assert_eq!((seen.granted, seen.refused.len()), (2, 1));
}

// ===== What happens to keys =====

/// Replaces a key as an operator should: by renaming.
fn replace(file: &Path, key: &str) {
    let new = file.with_extension("new");
    std::fs::copy(key_file(key), &new).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_replaced_in_the_middle_of_load_and_no_call_fails() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    replace(&file, "p256.jwk.json");
    let assertion = for_issuer(ClientAssertion::private_key(Secret::file(&file)));
    let cache = TokenCache::new(proven("turning", assertion).build().unwrap());
    let caller = Caller::new(&cache);
    let mut load = Load::start(&caller, 10, Duration::from_millis(20));
    load.progress(1).await;
    assert_eq!(seen("turning").await.auth.as_deref(), Some("ES256"));
    let old = cache.current().unwrap();
    replace(&file, "ed25519.jwk.json");
    // The token of the old key is good for three seconds.
    until(&cache, |status| status.last_error().is_some() || is_another(&cache, &old)).await;
    load.progress(10).await;
    let figures = load.stop().await;

    let seen = seen("turning").await;
    figures.report("a key replaced, 10 callers", seen.granted);
    figures.assert_none_failed();
    assert_eq!(seen.auth.as_deref(), Some("EdDSA"));
    assert!(seen.refused.is_empty() && seen.granted >= 2, "{:?}", seen.refused);
}

fn is_another(cache: &TokenCache, old: &tower_bearer::AccessToken) -> bool {
    cache.current().is_some_and(|token| token.secret() != old.secret())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_key_is_half_written_the_last_token_stays_in_use_and_no_call_fails() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    replace(&file, "p256.pem");
    let assertion = for_issuer(ClientAssertion::private_key(Secret::file(&file)));
    // Due after two of its twenty seconds.
    let policy = RefreshPolicy::builder().due_share(0.9).due_jitter(0.0).build().unwrap();
    let cache = TokenCache::with_policy(proven("half", assertion).build().unwrap(), policy);
    let caller = Caller::new(&cache);
    caller.succeed().await;
    let old = cache.current().unwrap();

    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let load = Load::start(&caller, 10, Duration::from_millis(20));
    until(&cache, |status| status.failures() == 1).await;
    let error = cache.status().last_error().cloned().unwrap();
    assert_eq!(refusal(&error).kind(), &Kind::Credential);
    assert!(error.is_transient() && error.to_string().contains("half-written"), "{error}");
    assert!(!is_another(&cache, &old));
    std::fs::write(&file, whole).unwrap();
    until(&cache, |status| status.last_error().is_none()).await;
    let figures = load.stop().await;

    let seen = seen("half").await;
    figures.report("a key half-written, 10 callers", seen.granted);
    figures.assert_none_failed();
    assert!(is_another(&cache, &old));
    assert_eq!((seen.granted, seen.refused.len(), figures.replays()), (2, 0, 0));
}

#[tokio::test]
async fn a_clock_that_is_five_minutes_off_is_in_the_error() {
    set_clock_ahead(300).await;
    let error = refused(proven("astray", private_key("p256.pem")).build().unwrap()).await;
    set_clock_ahead(0).await;
    assert!(error.contains("the clock of this machine, which dates the assertion, is "), "{error}");
    assert!(error.contains(" s behind the service's"), "{error}");
    is_taken("astray", private_key("p256.pem"), "ES256").await;
}
