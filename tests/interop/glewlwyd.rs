//! Assertions at an independent implementation of RFC 7523: `glewlwyd`. Each of its clients may
//! authenticate by one method only, and with each assertion once.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use tower_bearer::{
    AccessToken, Reason, Secret, TokenError, TokenRequest,
    oauth2::{
        Audience, ClientAssertion, EndpointErrorKind as Kind, SigningAlgorithm as Algorithm,
        TokenEndpoint, TokenEndpointBuilder,
    },
};

use crate::{
    assertions::{SHARED, key_file},
    servers::setting,
    stack::refusal,
};

/// The only audience that this server takes.
fn url() -> String {
    format!("{}/token", setting("GLEWLWYD"))
}

/// The server tells keys apart by their ids.
fn private_key(file: &str, id: &str) -> ClientAssertion {
    ClientAssertion::private_key(Secret::file(key_file(file))).key_id(id)
}

fn proven(endpoint: TokenEndpointBuilder, id: &str, assertion: ClientAssertion) -> TokenEndpoint {
    endpoint.client_id(id).scope("read").client_assertion(assertion).build().unwrap()
}

fn for_its_url(id: &str, assertion: ClientAssertion) -> TokenEndpoint {
    proven(TokenEndpoint::builder(url()), id, assertion.audience(Audience::TokenEndpoint))
}

async fn fetch(endpoint: &TokenEndpoint) -> Result<AccessToken, TokenError> {
    endpoint.fetch(TokenRequest::new(Reason::First)).await
}

/// Fetches two tokens, which takes two assertions.
async fn is_taken(id: &str, endpoint: &TokenEndpoint) {
    for _ in 0..2 {
        let token = fetch(endpoint).await.unwrap();
        let claims = token.secret().split('.').nth(1).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!((&claims["client_id"], &claims["scope"]), (&id.into(), &"read".into()));
    }
}

async fn is_refused(endpoint: &TokenEndpoint) -> String {
    let error = fetch(endpoint).await.unwrap_err();
    let said = refusal(&error);
    assert_eq!((said.kind(), said.status()), (&Kind::Refused, Some(StatusCode::FORBIDDEN)));
    assert!(!error.is_transient());
    assert!(error.to_string().contains("403"), "{error}");
    format!("{error} {error:?}")
}

#[tokio::test]
async fn private_key_jwt_is_taken_by_a_second_server() {
    for (id, algorithm) in [
        ("rsa", Algorithm::Rs256),
        ("rsa", Algorithm::Ps256),
        ("p256", Algorithm::Es256),
        ("ed25519", Algorithm::EdDsa),
    ] {
        let key = private_key(&format!("{id}.pem"), &format!("{id}-1"));
        is_taken(id, &for_its_url(id, key.algorithm(algorithm))).await;
    }
}

#[tokio::test]
async fn client_secret_jwt_is_taken_by_a_second_server() {
    for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
        let assertion = ClientAssertion::client_secret(SHARED).algorithm(algorithm);
        is_taken("shared", &for_its_url("shared", assertion)).await;
    }
}

#[tokio::test]
async fn a_second_server_refuses_a_wrong_key_and_the_error_shows_none() {
    let wrong = SHARED.to_uppercase();
    let rsa = std::fs::read_to_string(key_file("rsa.pem")).unwrap();
    for (id, assertion, key) in [
        ("p256", private_key("rsa.pem", "p256-1"), rsa.lines().nth(1).unwrap()),
        ("shared", ClientAssertion::client_secret(wrong.as_str()), wrong.as_str()),
    ] {
        let error = is_refused(&for_its_url(id, assertion)).await;
        assert!(!error.contains(key), "{error}");
    }
}

#[tokio::test]
async fn a_second_issuer_is_found_and_takes_assertions_for_its_url_alone() {
    let key = private_key("p256.pem", "p256-1");
    let found = |key| proven(TokenEndpoint::discover(setting("GLEWLWYD")), "p256", key);
    is_taken("p256", &found(key.clone().audience(Audience::Exactly(url())))).await;
    is_refused(&found(key)).await;
}
