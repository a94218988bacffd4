//! The named providers that take assertions: the requests as their documents have them.

use std::time::{Duration, SystemTime};

use serde_json::json;
#[cfg(feature = "keyed")]
use tower_bearer::TokenKey;
use tower_bearer::{
    Secret,
    oauth2::{
        ClientAssertion, EndpointErrorKind as Kind, SigningAlgorithm, TokenEndpointBuilder,
        providers,
    },
};

use super::{
    assertion_keys::verify,
    assertion_support::{JWT_BEARER, Jwt, key, key_text},
    support::{Scripted, Seen, answer_with, cause, fetch, fetch_with, kind, sent, shown},
};

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const GOOGLE: &str = "https://oauth2.googleapis.com/token";
const FORM: &str = "application/x-www-form-urlencoded";

// ===== Google =====

/// A key file as the console writes it, with another `token_uri`.
fn key_file(token_uri: &str) -> String {
    json!({
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "0123456789abcdef",
        "private_key": key_text("rsa.pem"),
        "client_email": "orders@my-project.iam.gserviceaccount.com",
        "client_id": "123456789012345678901",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": token_uri,
        "universe_domain": "googleapis.com",
    })
    .to_string()
}

fn google(file: String) -> TokenEndpointBuilder {
    providers::google_service_account(file)
}

fn grant(seen: &Seen) -> Jwt {
    Jwt::read(&seen.param("assertion"))
}

#[tokio::test]
async fn google_is_sent_a_grant_that_is_signed_with_the_key_of_the_file() {
    let seen = sent(google(key_file(GOOGLE)).scope(SCOPE)).await;
    assert_eq!(seen.uri, GOOGLE);
    assert_eq!(seen.header_names(), ["accept", "content-type", "user-agent"]);
    assert_eq!(seen.header("content-type"), FORM);
    let begin = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=eyJ";
    assert!(seen.body.starts_with(begin), "{}", seen.body);
    assert_eq!(seen.body.matches('&').count(), 1, "the scope is no parameter: {}", seen.body);

    let grant = grant(&seen);
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": "0123456789abcdef" });
    assert_eq!(grant.header, header);
    let (iat, exp) = (grant.seconds("iat"), grant.seconds("exp"));
    assert_eq!(
        grant.claims,
        json!({
            "iss": "orders@my-project.iam.gserviceaccount.com",
            "scope": SCOPE,
            "aud": GOOGLE,
            "iat": iat,
            "exp": exp,
        })
    );
    assert_eq!(exp - iat, 3600);
    verify(&grant, "rsa");
}

#[cfg(feature = "keyed")]
#[tokio::test]
async fn google_is_asked_for_the_scope_of_the_key_inside_the_grant() {
    let service = Scripted::new([super::support::answer(200, super::support::OK)]);
    let endpoint = google(key_file(GOOGLE)).scope(SCOPE).transport(service.clone());
    let key = TokenKey::new().scope("https://www.googleapis.com/auth/pubsub");
    endpoint.build().unwrap().fetch(super::support::request_for(&key)).await.unwrap();
    let seen = service.seen().remove(0);
    assert_eq!(grant(&seen).claim("scope"), "https://www.googleapis.com/auth/pubsub");
    assert_eq!(seen.param("scope"), "");
}

#[tokio::test]
async fn where_google_is_asked_is_not_for_the_file_to_decide() {
    for known in [
        GOOGLE,
        "https://accounts.google.com/o/oauth2/token",
        "https://www.googleapis.com/oauth2/v4/token",
    ] {
        let seen = sent(google(key_file(known)).scope(SCOPE)).await;
        assert_eq!(seen.uri, GOOGLE);
        assert_eq!(grant(&seen).claim("aud"), GOOGLE);
    }
    let own = "https://oauth2.example.com/token";
    let seen = sent(google(key_file(own)).url(own).scope(SCOPE)).await;
    assert_eq!(seen.uri, own);
    assert_eq!(grant(&seen).claim("aud"), own);
    for other in ["https://evil.example.com/token", "http://169.254.169.254/token", ""] {
        let error = unusable(google(key_file(other)), false).await;
        assert!(error.contains("`token_uri`") && error.contains("`.url(..)`"), "{error}");
        assert!(!error.contains("evil"), "{error}");
    }
}

async fn unusable(builder: TokenEndpointBuilder, passes: bool) -> String {
    let service = Scripted::default();
    let endpoint = builder.scope(SCOPE).transport(service.clone()).build().unwrap();
    let error = fetch(&endpoint).await.unwrap_err();
    assert!(service.seen().is_empty());
    assert_eq!((kind(&error), error.is_transient()), (&Kind::Credential, passes), "{error}");
    let shown = shown(&error);
    assert!(shown.contains("`google_service_account`: ") && !shown.contains("hush"), "{shown}");
    error.to_string()
}

#[tokio::test]
async fn a_file_that_is_no_service_accounts_is_named() {
    let whole = key_file(GOOGLE);
    for (file, problem, passes) in [
        ("hush".to_owned(), "not a key file of a service account", false),
        ("{}".to_owned(), "not a key file of a service account", false),
        (whole.replace("service_account", "authorized_user"), "not a key file of a service", false),
        (whole.replace("client_email", "email"), "not a key file of a service", false),
        (whole.replace("PRIVATE KEY", "PUBLIC KEY"), "only public data", false),
        (whole.replace("MIIE", "AIIE"), "is damaged", false),
        (whole[..whole.len() / 2].to_owned(), "half-written", true),
    ] {
        let error = unusable(google(file), passes).await;
        assert!(error.contains(problem), "{error}");
    }
    let key = json!({ "type": "service_account", "client_email": "a", "private_key": key_text("p256.pem") });
    let error = unusable(google(key.to_string()), false).await;
    assert!(error.contains("a kind that the algorithm does not accept"), "{error}");
}

#[tokio::test]
async fn a_grant_that_google_refuses_while_the_clock_is_off_says_so_and_is_not_shown() {
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(600));
    let body = r#"{"error":"invalid_grant","error_description":"Invalid JWT: Token must be a
        short-lived token (60 minutes) and in a reasonable timeframe."}"#;
    let answer = answer_with(400, &[("date", &date)], body.replace('\n', ""));
    let error = fetch_with(google(key_file(GOOGLE)).scope(SCOPE), answer).await.unwrap_err();
    assert!(error.to_string().contains("s behind the service's"), "{error}");
    assert_eq!(cause(&error).error(), Some("invalid_grant"));
}

#[tokio::test]
async fn the_grant_is_signed_by_the_builder_alone() {
    let builder = google(key_file(GOOGLE)).param("assertion", "hush");
    let error = builder.transport(Scripted::default()).build().unwrap_err().to_string();
    assert!(error.contains("\"assertion\" belongs to the grant"), "{error}");
    // And another grant takes its place.
    let seen = sent(google(key_file(GOOGLE)).scope("a").jwt_bearer("given")).await;
    assert_eq!((seen.param("assertion").as_str(), seen.param("scope").as_str()), ("given", "a"));
}

// ===== Microsoft Entra =====

const TENANT: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
const CLIENT: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
const ENTRA: &str =
    "https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee/oauth2/v2.0/token";
const GRAPH: &str = "https://graph.microsoft.com/.default";

#[tokio::test]
async fn entra_is_asked_with_a_secret_as_documented() {
    let builder = providers::entra(TENANT, CLIENT).client_secret("qWgdYAmab0YSkuL1qKv5bPX");
    let seen = sent(builder.scope(GRAPH)).await;
    assert_eq!(seen.uri, ENTRA);
    assert_eq!(seen.header_names(), ["accept", "content-type", "user-agent"]);
    assert_eq!(seen.header("content-type"), FORM);
    assert_eq!(
        seen.body,
        "grant_type=client_credentials&client_id=00001111-aaaa-2222-bbbb-3333cccc4444\
         &client_secret=qWgdYAmab0YSkuL1qKv5bPX&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default"
    );
}

#[tokio::test]
async fn entra_is_shown_an_assertion_as_documented() {
    let assertion = ClientAssertion::private_key(key("rsa.pem")).certificate(key("rsa.crt.pem"));
    let builder = providers::entra(TENANT, CLIENT).scope(GRAPH);
    let seen = sent(builder.client_assertion(assertion.clone())).await;
    assert_eq!(seen.param("client_id"), CLIENT);
    assert_eq!(seen.param("client_assertion_type"), JWT_BEARER);
    let jwt = seen.assertion();
    assert_eq!((jwt.header("alg"), jwt.header("typ")), ("PS256", "JWT"));
    assert_eq!(jwt.header("x5t#S256"), "VgFr7t_cA_BySnMHGOOgQ7_CBOH_q1qsWK1gRo1zFoA");
    assert_eq!([jwt.claim("iss"), jwt.claim("sub"), jwt.claim("aud")], [CLIENT, CLIENT, ENTRA]);
    assert_eq!(jwt.seconds("nbf"), jwt.seconds("iat"));
    verify(&jwt, "rsa");

    let builder = providers::entra(TENANT, CLIENT).scope(GRAPH);
    let assertion = assertion.algorithm(SigningAlgorithm::Rs256);
    let jwt = sent(builder.client_assertion(assertion)).await.assertion();
    assert_eq!(jwt.header("alg"), "RS256");
}

// ===== Auth0, Okta, Keycloak =====

#[tokio::test]
async fn auth0_is_asked_in_json_for_an_audience() {
    let auth0 = |domain: &str| providers::auth0(domain, "my-id", "https://api.example.com/");
    let seen = sent(auth0("tenant.eu.auth0.com").client_secret("my-secret")).await;
    assert_eq!(seen.uri, "https://tenant.eu.auth0.com/oauth/token");
    assert_eq!(seen.header_names(), ["accept", "content-type", "user-agent"]);
    assert_eq!(seen.header("content-type"), "application/json");
    assert_eq!(
        seen.body,
        r#"{"audience":"https://api.example.com/","client_id":"my-id","client_secret":"my-secret","grant_type":"client_credentials"}"#
    );

    let assertion = ClientAssertion::private_key(key("p256.pem"));
    let seen = sent(auth0("https://tenant.eu.auth0.com/").client_assertion(assertion)).await;
    let body: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
    assert_eq!(body["client_assertion_type"], JWT_BEARER);
    let jwt = Jwt::read(body["client_assertion"].as_str().unwrap());
    // With the slash that its issuer has.
    assert_eq!(jwt.claim("aud"), "https://tenant.eu.auth0.com/");
    assert!(jwt.seconds("exp") - jwt.seconds("iat") <= 300);
}

#[tokio::test]
async fn oktas_organization_is_shown_an_assertion_for_its_endpoint() {
    let assertion = ClientAssertion::private_key(key("rsa.pem")).key_id("my-kid");
    let builder = providers::okta("example.okta.com", "0oar95zt9zIpYuz6A0h7");
    let seen = sent(builder.client_assertion(assertion).scope("okta.users.read")).await;
    assert_eq!(seen.uri, "https://example.okta.com/oauth2/v1/token");
    assert_eq!(seen.header_names(), ["accept", "content-type", "user-agent"]);
    assert_eq!(seen.param("grant_type"), "client_credentials");
    assert_eq!(seen.param("scope"), "okta.users.read");
    let jwt = seen.assertion();
    assert_eq!((jwt.header("alg"), jwt.header("kid")), ("RS256", "my-kid"));
    let client = "0oar95zt9zIpYuz6A0h7";
    assert_eq!(
        [jwt.claim("iss"), jwt.claim("sub"), jwt.claim("aud")],
        [client, client, "https://example.okta.com/oauth2/v1/token"]
    );
    verify(&jwt, "rsa");
}

#[tokio::test]
async fn an_authorization_server_of_ones_own_at_okta_takes_a_secret_too() {
    let server = || {
        providers::okta_authorization_server("https://example.okta.com/", "default", "my-id")
            .scope("orders")
    };
    let seen = sent(server().client_secret("my-secret")).await;
    assert_eq!(seen.uri, "https://example.okta.com/oauth2/default/v1/token");
    assert_eq!(seen.header("authorization"), "Basic bXktaWQ6bXktc2VjcmV0");
    assert_eq!(seen.body, "grant_type=client_credentials&scope=orders");
    let assertion = ClientAssertion::private_key(key("p256.pem"));
    let jwt = sent(server().client_assertion(assertion)).await.assertion();
    assert_eq!(jwt.claim("aud"), "https://example.okta.com/oauth2/default/v1/token");
}

#[tokio::test]
async fn keycloak_is_asked_at_its_realm_and_is_shown_an_assertion_for_the_realm() {
    let realm = || providers::keycloak("https://sso.example.com/", "acme", "orders");
    let url = "https://sso.example.com/realms/acme/protocol/openid-connect/token";
    let seen = sent(realm().client_secret("my-secret")).await;
    assert_eq!(seen.uri, url);
    assert_eq!(seen.header("authorization"), "Basic b3JkZXJzOm15LXNlY3JldA==");
    assert_eq!(seen.body, "grant_type=client_credentials");

    let assertion = || ClientAssertion::private_key(key("ed25519.pem"));
    let jwt = sent(realm().client_assertion(assertion())).await.assertion();
    assert_eq!(jwt.claim("aud"), "https://sso.example.com/realms/acme");
    let elsewhere = assertion().issuer("https://login.example.com/realms/acme");
    let jwt = sent(realm().client_assertion(elsewhere)).await.assertion();
    assert_eq!(jwt.claim("aud"), "https://login.example.com/realms/acme");

    let old = providers::keycloak("https://sso.example.com/auth", "acme", "orders");
    let seen =
        sent(old.client_assertion(ClientAssertion::token(Secret::new("e30.e30.c2ln")))).await;
    let url = "https://sso.example.com/auth/realms/acme/protocol/openid-connect/token";
    assert_eq!(seen.uri, url);
}
