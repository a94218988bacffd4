//! An endpoint that is found by its issuer, and clients that show a certificate to it.

use std::{fs, path::PathBuf};

use http::StatusCode;
use tower_bearer::{
    AccessToken, Reason, Secret, TokenCache, TokenRequest,
    oauth2::{EndpointErrorKind as Kind, TokenEndpoint, TokenEndpointBuilder},
};

use crate::{
    servers::{http, secret_of, seen, setting},
    stack::{Caller, refusal},
};

/// The issuer whose clients are known by their certificates.
fn mutual() -> String {
    format!("{}/mutual", setting("AUTH_TLS"))
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(setting("CERTIFICATES")).join(name)
}

fn ca() -> Vec<u8> {
    fs::read(setting("CA")).unwrap()
}

/// A client that shows that certificate.
fn showing(builder: TokenEndpointBuilder, id: &str, certificate: &str) -> TokenEndpointBuilder {
    let [certificate, key] = ["pem", "key"].map(|kind| path(&format!("{certificate}.{kind}")));
    builder
        .root_certificate(ca())
        .client_id(id)
        .client_certificate(Secret::file(certificate), Secret::file(key))
}

async fn fetch(endpoint: &TokenEndpoint) -> AccessToken {
    endpoint.fetch(TokenRequest::new(Reason::First)).await.unwrap()
}

// ===== Metadata =====

#[tokio::test]
async fn an_issuer_is_found_by_the_well_known_of_rfc_8414() {
    let endpoint = TokenEndpoint::discover(setting("AUTH"));
    let endpoint = endpoint.client_id("issuer").client_secret(secret_of("issuer"));
    let cache = TokenCache::new(endpoint.build().unwrap());
    assert_eq!(Caller::new(&cache).succeed().await.sent, 1);
    let seen = seen("issuer").await;
    assert_eq!((seen.granted, seen.auth.as_deref()), (1, Some("basic")));
}

#[tokio::test]
async fn an_issuer_with_a_path_is_found_by_the_well_known_of_openid_connect() {
    let endpoint = TokenEndpoint::discover(mutual()).root_certificate(ca());
    let id = "mutual-basic";
    let endpoint = endpoint.client_id(id).client_secret(secret_of(id)).build().unwrap();
    fetch(&endpoint).await;
    assert_eq!(seen(id).await.auth.as_deref(), Some("basic"));
}

#[tokio::test]
async fn another_spelling_of_an_issuer_is_another_issuer() {
    let endpoint = TokenEndpoint::discover(format!("{}/", setting("AUTH")));
    let endpoint = endpoint.client_id("issuer").client_secret(secret_of("issuer"));
    let endpoint = endpoint.build().unwrap();
    let error = endpoint.fetch(TokenRequest::new(Reason::First)).await.unwrap_err();
    assert!(matches!(refusal(&error).kind(), Kind::Metadata(_)), "{error}");
}

// ===== Certificates (RFC 8705) =====

#[tokio::test]
async fn tls_client_auth_is_taken_with_an_issuer_and_with_a_url() {
    let url = TokenEndpoint::builder(format!("{}/token", mutual()));
    for builder in [TokenEndpoint::discover(mutual()), url] {
        fetch(&showing(builder, "mutual", "client").build().unwrap()).await;
    }
    let seen = seen("mutual").await;
    assert_eq!((seen.granted, seen.auth.as_deref()), (2, Some("post")));
}

#[tokio::test]
async fn self_signed_tls_client_auth_is_taken() {
    let builder = TokenEndpoint::discover(mutual());
    fetch(&showing(builder, "mutual-self", "selfsigned").build().unwrap()).await;
    assert_eq!(seen("mutual-self").await.granted, 1);
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_a_permanent_error_with_the_servers_code() {
    for (id, certificate) in [("mutual", "stranger"), ("mutual-self", "client")] {
        let endpoint = showing(TokenEndpoint::discover(mutual()), id, certificate).build().unwrap();
        let error = endpoint.fetch(TokenRequest::new(Reason::First)).await.unwrap_err();
        assert!(!error.is_transient(), "{error}");
        let refusal = refusal(&error);
        assert_eq!(refusal.status(), Some(StatusCode::UNAUTHORIZED));
        assert_eq!(refusal.error(), Some("invalid_client"));
    }
}

/// What the API answers to a token, over a connection that shows that certificate.
async fn present(token: &AccessToken, certificate: Option<&str>) -> StatusCode {
    let mut client = http().tls_certs_only([reqwest::Certificate::from_pem(&ca()).unwrap()]);
    if let Some(name) = certificate {
        let [certificate, key] =
            ["pem", "key"].map(|kind| fs::read(path(&format!("{name}.{kind}"))));
        let pem = [certificate.unwrap(), key.unwrap()].concat();
        client = client.identity(reqwest::Identity::from_pem(&pem).unwrap());
    }
    let request = client.build().unwrap().get(format!("{}/bound", setting("API_TLS")));
    request.header("authorization", token.header_value()).send().await.unwrap().status()
}

#[tokio::test]
async fn a_token_is_bound_to_the_certificate_that_it_was_fetched_with_and_the_next_to_the_next() {
    let dir = tempfile::TempDir::new().unwrap();
    let [certificate, key] = ["client.pem", "client.key"].map(|name| dir.path().join(name));
    let shows = |name: &str| {
        fs::copy(path(&format!("{name}.pem")), &certificate).unwrap();
        fs::copy(path(&format!("{name}.key")), &key).unwrap();
    };
    shows("client");
    let endpoint = TokenEndpoint::discover(mutual())
        .root_certificate(ca())
        .client_id("mutual-renewed")
        .client_certificate(Secret::file(&certificate), Secret::file(&key));
    let endpoint = endpoint.build().unwrap();
    let first = fetch(&endpoint).await;
    shows("renewed");
    let second = fetch(&endpoint).await;

    for (token, shown, expected) in [
        (&first, Some("client"), StatusCode::OK),
        (&first, Some("renewed"), StatusCode::UNAUTHORIZED),
        (&first, None, StatusCode::UNAUTHORIZED),
        (&second, Some("renewed"), StatusCode::OK),
        (&second, Some("client"), StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(present(token, shown).await, expected, "{shown:?}");
    }
}
