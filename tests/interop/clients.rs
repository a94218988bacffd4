//! Every way to ask for a token and to present it, once each.

use http::{StatusCode, header::CONTENT_TYPE};
use tower_bearer::{
    Challenge, Reason, TokenCache, TokenRequest,
    oauth2::{BodyFormat, ClientAuth, EndpointErrorKind as Kind, ReqwestService, TokenEndpoint},
};

use crate::{
    load::in_flight,
    servers::{endpoint, http, secret_of, seen, setting},
    stack::{Caller, refusal},
};

/// What is escaped in a form, and an escape that is none.
const ODD: &str = " +:%&/ %2B";

async fn is_taken(id: &str, secret: &str, auth: ClientAuth, seen_as: &str) {
    let cache = TokenCache::new(endpoint(id, secret).client_auth(auth).build().unwrap());
    let call = Caller::new(&cache).succeed().await;
    assert_eq!(call.sent, 1);
    let seen = seen(id).await;
    assert_eq!((seen.granted, seen.auth.as_deref()), (1, Some(seen_as)));
}

#[tokio::test]
async fn client_secret_basic_is_taken() {
    is_taken("basic", "basic-secret", ClientAuth::Basic, "basic").await;
}

#[tokio::test]
async fn client_secret_post_is_taken() {
    is_taken("post", "post-secret", ClientAuth::Body, "post").await;
}

#[tokio::test]
async fn an_id_and_a_secret_of_odd_characters_are_taken_with_basic() {
    is_taken(&format!("basic{ODD}"), &format!("secret{ODD}"), ClientAuth::Basic, "basic").await;
}

#[tokio::test]
async fn an_id_and_a_secret_of_odd_characters_are_taken_in_the_body() {
    is_taken(&format!("post{ODD}"), &format!("secret{ODD}"), ClientAuth::Body, "post").await;
}

#[tokio::test]
async fn a_thousand_callers_at_the_start_cause_one_fetch() {
    let cache = TokenCache::new(endpoint("cold", "cold-secret").build().unwrap());
    let figures = in_flight(&Caller::new(&cache), 1000).ended().await;
    figures.assert_none_failed();
    let fetches = seen("cold").await.granted;
    figures.report("cold start, 1,000 callers", fetches);
    assert_eq!((figures.calls(), fetches), (1000, 1));
}

async fn refused(endpoint: TokenEndpoint) -> (StatusCode, String) {
    let error = endpoint.fetch(TokenRequest::new(Reason::First)).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    let refusal = refusal(&error);
    assert_eq!(refusal.kind(), &Kind::Refused);
    (refusal.status().unwrap(), refusal.error().unwrap().to_owned())
}

#[tokio::test]
async fn a_wrong_secret_is_a_permanent_error_with_the_servers_code() {
    let refused = refused(endpoint("basic", "wrong").build().unwrap()).await;
    assert_eq!(refused, (StatusCode::UNAUTHORIZED, "invalid_client".to_owned()));
}

#[tokio::test]
async fn a_json_body_is_refused_by_the_server_and_the_error_says_so() {
    let endpoint = endpoint("basic", "basic-secret").body_format(BodyFormat::Json);
    let (status, error) = refused(endpoint.build().unwrap()).await;
    assert_eq!((status, error.as_str()), (StatusCode::BAD_REQUEST, "invalid_request"));
}

// ===== JWT access tokens (RFC 8707, RFC 9068) =====

#[tokio::test]
async fn a_resource_gives_a_jwt_that_the_api_verifies_by_itself() {
    let endpoint = endpoint("jwt", &secret_of("jwt"));
    let endpoint = endpoint.resource("https://api.example.com/jwt").scope("read");
    let cache = TokenCache::new(endpoint.build().unwrap());
    let api = setting("API");
    let call = Caller::over(http().build().unwrap(), &cache, &api, "/jwt").succeed().await;
    assert_eq!(call.sent, 1);
    assert_eq!(call.head.headers[CONTENT_TYPE], "application/json");
    let token = cache.current().unwrap();
    assert_eq!(token.secret().split('.').count(), 3, "a JWT has three parts");
    assert_eq!(token.scope(), Some("read"));
}

#[tokio::test]
async fn a_token_for_nothing_in_particular_is_no_jwt_and_the_call_ends_after_one_replay() {
    let cache = TokenCache::new(endpoint("jwt", &secret_of("jwt")).build().unwrap());
    let caller = Caller::over(http().build().unwrap(), &cache, &setting("API"), "/jwt");
    let call = caller.call().await.unwrap();
    assert_eq!((call.head.status, call.sent), (StatusCode::UNAUTHORIZED, 2));
}

// ===== Challenges (RFC 6750 §3) =====

async fn challenge(authorization: Option<&str>) -> Vec<Challenge> {
    let cache = TokenCache::new(endpoint("basic", "basic-secret").build().unwrap());
    let call = Caller::new(&cache).call_with(authorization).await;
    assert_eq!((call.head.status, call.sent), (StatusCode::UNAUTHORIZED, 1));
    Challenge::from_headers(&call.head.headers)
}

#[tokio::test]
async fn a_call_without_a_token_gets_a_challenge_without_an_error() {
    let challenges = challenge(None).await;
    assert!(challenges[0].is("Bearer") && challenges.len() == 1);
    assert_eq!(challenges[0].params().collect::<Vec<_>>(), [("realm", "interop")]);
}

#[tokio::test]
async fn an_unknown_token_gets_a_challenge_with_invalid_token() {
    let challenges = challenge(Some("Bearer unknown")).await;
    assert_eq!(challenges[0].param("error"), Some("invalid_token"));
    let description = "The access token expired, or was revoked";
    assert_eq!(challenges[0].param("error_description"), Some(description));
}

// ===== TLS =====

#[tokio::test]
async fn a_private_ca_is_trusted_by_a_client_that_is_given_its_root() {
    let root = std::fs::read(setting("CA")).unwrap();
    let root = reqwest::Certificate::from_pem(&root).unwrap();
    let client = http().https_only(true).tls_certs_only([root]).build().unwrap();
    let endpoint = over_tls().transport(ReqwestService::new(client.clone())).build().unwrap();
    let cache = TokenCache::new(endpoint);
    let call = Caller::over(client, &cache, &setting("API_TLS"), "/introspected").succeed().await;
    assert_eq!(call.sent, 1);
}

#[tokio::test]
async fn a_private_ca_is_not_trusted_by_the_ready_made_client() {
    let endpoint = over_tls().build().unwrap();
    let error = endpoint.fetch(TokenRequest::new(Reason::First)).await.unwrap_err();
    let refusal = refusal(&error);
    assert_eq!(refusal.kind(), &Kind::Unreachable);
    assert!(refusal.to_string().contains("certificate"), "{refusal}");
}

fn over_tls() -> tower_bearer::oauth2::TokenEndpointBuilder {
    endpoint("tls", "tls-secret").url(format!("{}/token", setting("AUTH_TLS")))
}
