//! One token for another (RFC 8693).

use tower_bearer::{
    Secret,
    oauth2::{EndpointErrorKind as Kind, TokenExchange, TokenType},
};
#[cfg(feature = "keyed")]
use tower_bearer::{
    TokenKey,
    oauth2::{BodyFormat, ClientAuth, TokenEndpoint},
};

use super::support::{Scripted, answer, cause, client, fetch_with, kind, sent, shown};
#[cfg(feature = "keyed")]
use super::support::{URL, body_for, fetch_for, subject};

/// As a form has it.
const EXCHANGE: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange";
const ACCESS_TOKEN: &str = "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token";
#[cfg(feature = "keyed")]
const JWT: &str = "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt";

/// The answer of RFC 8693 §2.3.
const RFC_ANSWER: &str = r#"{
    "access_token":"eyJhbGciOiJFUzI1NiIsImtpZCI6IjllciJ9.eyJhdWQiOiJodHRwczovL2JhY2tlbmQuZXhhbXBsZS5jb20iLCJpc3MiOiJodHRwczovL2FzLmV4YW1wbGUuY29tIiwiZXhwIjoxNDQxOTE3NTkzLCJpYXQiOjE0NDE5MTc1MzMsInN1YiI6ImJkY0BleGFtcGxlLmNvbSIsInNjb3BlIjoiYXBpIn0.40y3ZgQedw6rxf59WlwHDD9jryFOr0_Wh3CGozQBihNBhnXEQgU85AI9x3KmsPottVMLPIWvmDCMy5-kdXjwhw",
    "issued_token_type":"urn:ietf:params:oauth:token-type:access_token",
    "token_type":"Bearer",
    "expires_in":60
}"#;

fn fixed() -> TokenExchange {
    TokenExchange::new().subject_token("of-the-program")
}

fn said(issued: &str, token_type: &str) -> String {
    format!(r#"{{"access_token":"at","issued_token_type":"{issued}","token_type":"{token_type}"}}"#)
}

// ===== What is sent =====

#[cfg(feature = "keyed")]
#[tokio::test]
async fn the_example_of_the_rfc_is_sent_as_it_stands_there() {
    let builder = TokenEndpoint::builder(URL)
        .client_id("rs08")
        .client_secret("long-secure-random-secret")
        .resource("https://backend.example.com/api")
        .token_exchange(TokenExchange::new());
    let alice = subject("accVkjcJyb4BWCxGsndESCJQbdFMogUC5PbRDqceLTC");
    let key = TokenKey::new().on_behalf_of(alice);
    let (mut seen, outcome) = fetch_for(&key, builder, answer(200, RFC_ANSWER)).await;
    let (seen, token) = (seen.remove(0), outcome.unwrap());
    assert_eq!(seen.header("authorization"), "Basic cnMwODpsb25nLXNlY3VyZS1yYW5kb20tc2VjcmV0");
    assert_eq!(seen.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(
        seen.body,
        format!(
            "{EXCHANGE}&subject_token=accVkjcJyb4BWCxGsndESCJQbdFMogUC5PbRDqceLTC\
             &resource=https%3A%2F%2Fbackend.example.com%2Fapi&subject_token_type={ACCESS_TOKEN}"
        )
    );
    assert!(token.secret().ends_with(
        ".40y3ZgQedw6rxf59WlwHDD9jryFOr0_Wh3CGozQBihNBhnXEQgU85AI9x3KmsPottVMLPIWvmDCMy5-kdXjwhw"
    ));
    assert_eq!(token.lifetime().map(|lifetime| lifetime.as_secs()), Some(60));
}

#[cfg(feature = "keyed")]
#[tokio::test]
async fn the_delegation_of_the_rfcs_appendix_has_an_actor() {
    let exchange = TokenExchange::new()
        .subject_token_type(TokenType::Jwt)
        .actor_token("eyJhbGciOiJFUzI1NiIsImtpZCI6IjE2In0.actor.sig")
        .actor_token_type(TokenType::Jwt);
    let builder = TokenEndpoint::builder(URL).token_exchange(exchange);
    let key = TokenKey::new()
        .audience("urn:example:cooperation-context")
        .on_behalf_of(subject("eyJhbGciOiJFUzI1NiIsImtpZCI6IjE2In0.subject.sig"));
    assert_eq!(
        body_for(&key, builder).await,
        format!(
            "{EXCHANGE}&subject_token=eyJhbGciOiJFUzI1NiIsImtpZCI6IjE2In0.subject.sig\
             &audience=urn%3Aexample%3Acooperation-context&subject_token_type={JWT}\
             &actor_token=eyJhbGciOiJFUzI1NiIsImtpZCI6IjE2In0.actor.sig&actor_token_type={JWT}"
        )
    );
}

#[cfg(feature = "keyed")]
#[tokio::test]
async fn the_same_in_json() {
    let exchange =
        TokenExchange::new().actor_token("actor").requested_token_type(TokenType::IdToken);
    let builder = client().client_auth(ClientAuth::Body).body_format(BodyFormat::Json);
    let key = TokenKey::new().resource("urn:a").resource("urn:b").on_behalf_of(subject("alice"));
    let body = r#"{"actor_token":"actor","actor_token_type":"urn:ietf:params:oauth:token-type:access_token","client_id":"my-app","client_secret":"hush-hush","grant_type":"urn:ietf:params:oauth:grant-type:token-exchange","requested_token_type":"urn:ietf:params:oauth:token-type:id_token","resource":["urn:a","urn:b"],"subject_token":"alice","subject_token_type":"urn:ietf:params:oauth:token-type:access_token"}"#;
    assert_eq!(body_for(&key, builder.token_exchange(exchange)).await, body);
}

#[tokio::test]
async fn a_fixed_subject_token_is_read_for_each_fetch() {
    let reads = std::sync::atomic::AtomicUsize::new(0);
    let subject = Secret::from_fn(move || {
        let nth = reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::future::ready(Ok(format!("subject-{nth}")))
    });
    let service = Scripted::new([answer(200, RFC_ANSWER), answer(200, RFC_ANSWER)]);
    let endpoint = client()
        .token_exchange(TokenExchange::new().subject_token(subject))
        .scope("a")
        .transport(service.clone())
        .build()
        .unwrap();
    for _ in 0..2 {
        super::support::fetch(&endpoint).await.unwrap();
    }
    let body = |nth| {
        format!("{EXCHANGE}&scope=a&subject_token=subject-{nth}&subject_token_type={ACCESS_TOKEN}")
    };
    assert_eq!(service.bodies(), [body(0), body(1)]);
}

#[tokio::test]
async fn every_type_of_token_has_its_uri() {
    for (token_type, uri) in [
        (TokenType::AccessToken, "urn:ietf:params:oauth:token-type:access_token"),
        (TokenType::RefreshToken, "urn:ietf:params:oauth:token-type:refresh_token"),
        (TokenType::IdToken, "urn:ietf:params:oauth:token-type:id_token"),
        (TokenType::Saml1, "urn:ietf:params:oauth:token-type:saml1"),
        (TokenType::Saml2, "urn:ietf:params:oauth:token-type:saml2"),
        (TokenType::Jwt, "urn:ietf:params:oauth:token-type:jwt"),
        (TokenType::Other("urn:example:ticket".to_owned()), "urn:example:ticket"),
    ] {
        let exchange = fixed()
            .subject_token_type(token_type.clone())
            .actor_token("actor")
            .actor_token_type(token_type.clone())
            .requested_token_type(token_type);
        let body = sent(client().token_exchange(exchange)).await.body;
        let uri = uri.replace(':', "%3A");
        for name in ["subject_token_type", "actor_token_type", "requested_token_type"] {
            assert!(format!("{body}&").contains(&format!("&{name}={uri}&")), "{body}");
        }
    }
}

#[tokio::test]
async fn the_last_of_several_grants_counts() {
    let builder = || client().refresh_token("rt-0").token_exchange(fixed());
    assert!(sent(builder()).await.body.starts_with(EXCHANGE));
    let body = sent(builder().grant_type("urn:x")).await.body;
    assert_eq!(body, "grant_type=urn%3Ax");
}

// ===== Settings that cannot be =====

#[test]
fn a_setting_that_cannot_be_is_named() {
    for (exchange, named) in [
        (fixed().actor_token_type(TokenType::Jwt), "`actor_token_type`"),
        (fixed().subject_token_type(TokenType::Other(String::new())), "`subject_token_type`"),
        (fixed().requested_token_type(TokenType::Other("a b".into())), "`requested_token_type`"),
    ] {
        let error = client().token_exchange(exchange).transport(Scripted::new([])).build();
        let error = error.unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
    let twice = client().token_exchange(fixed()).secret_param("subject_token", "another");
    let error = twice.transport(Scripted::new([])).build().unwrap_err().to_string();
    assert!(error.contains("\"subject_token\"") && !error.contains("another,"), "{error}");
}

#[cfg(feature = "keyed")]
#[test]
fn the_subject_comes_from_the_key_or_from_a_setting() {
    let builder = client().token_exchange(TokenExchange::new());
    let builder = builder.secret_param("subject_token", "another").transport(Scripted::new([]));
    let error = builder.build().unwrap_err().to_string();
    assert!(error.contains("\"subject_token\""), "{error}");
}

#[cfg(not(feature = "keyed"))]
#[test]
fn without_keys_a_subject_token_is_needed() {
    let builder = client().token_exchange(TokenExchange::new()).transport(Scripted::new([]));
    let error = builder.build().unwrap_err().to_string();
    assert!(error.contains("`subject_token`") && error.contains("`keyed`"), "{error}");
}

// ===== What is answered =====

#[tokio::test]
async fn what_is_no_access_token_is_taken_only_if_it_was_asked_for() {
    let not_asked = || client().token_exchange(fixed());
    let asked = |token_type| client().token_exchange(fixed().requested_token_type(token_type));
    let jwt = said("urn:ietf:params:oauth:token-type:jwt", "N_A");
    let access_token = said("urn:ietf:params:oauth:token-type:access_token", "N_A");

    let token = fetch_with(asked(TokenType::Jwt), answer(200, jwt.clone())).await.unwrap();
    assert_eq!(token.secret(), "at");
    for (builder, body) in [
        (not_asked(), jwt.clone()),
        (asked(TokenType::AccessToken), access_token),
        (asked(TokenType::AccessToken), jwt),
        (asked(TokenType::Jwt), said("urn:ietf:params:oauth:token-type:jwt", "DPoP")),
    ] {
        let error = fetch_with(builder, answer(200, body)).await.unwrap_err();
        assert_eq!(*kind(&error), Kind::NotBearer);
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn an_issued_type_that_was_not_asked_for_is_an_error_that_says_so() {
    let asked = |token_type| client().token_exchange(fixed().requested_token_type(token_type));
    let saml = said("urn:ietf:params:oauth:token-type:saml2", "Bearer");
    let error = fetch_with(asked(TokenType::AccessToken), answer(200, saml.clone())).await;
    let error = error.unwrap_err();
    assert_eq!(*kind(&error), Kind::OtherTokenType);
    assert!(!error.is_transient() && !error.concerns_key_only());
    let text = error.to_string();
    let both = "`urn:ietf:params:oauth:token-type:saml2` in place of \
                `urn:ietf:params:oauth:token-type:access_token`";
    assert!(text.contains(both) && !shown(&error).contains("\"at\""), "{text}");

    for builder in [client().token_exchange(fixed()), asked(TokenType::Saml2)] {
        fetch_with(builder, answer(200, saml.clone())).await.unwrap();
    }
    // An answer without the type, which the RFC does not permit, counts as of the requested one.
    for silent in [r#"{"access_token":"at"}"#, r#"{"access_token":"at","issued_token_type":null}"#]
    {
        fetch_with(asked(TokenType::AccessToken), answer(200, silent)).await.unwrap();
    }
}

#[tokio::test]
async fn a_refresh_token_beside_the_token_is_dropped() {
    let body = r#"{"access_token":"at","refresh_token":"rt","token_type":"Bearer"}"#;
    let token = fetch_with(client().token_exchange(fixed()), answer(200, body)).await.unwrap();
    assert_eq!(token.refresh_token(), None);
}

#[cfg(feature = "keyed")]
#[tokio::test]
async fn the_error_for_a_subject_that_the_service_refuses_has_its_code() {
    let body = r#"{"error":"invalid_request","error_description":"Requests to endpoint missing or bad subject_token"}"#;
    let key = TokenKey::new().on_behalf_of(subject("alice"));
    let builder = client().token_exchange(TokenExchange::new());
    let error = fetch_for(&key, builder, answer(400, body)).await.1.unwrap_err();
    assert_eq!(cause(&error).error(), Some("invalid_request"));
    assert!(!error.is_transient() && error.concerns_key_only());
}

// ===== What is never shown =====

/// Every piece of what must not be seen, echoed by the server in what it may show.
fn echo(secrets: &[&str]) -> String {
    let all = secrets.join(" ");
    let claims = serde_json::json!({ "access_token": all }).to_string();
    serde_json::json!({
        "error": format!("invalid_grant {all}"),
        "error_description": format!("no good: {all}"),
        "error_uri": format!("https://auth.example.com/?{}", secrets.join("&")),
        "claims": claims,
    })
    .to_string()
}

#[cfg(feature = "keyed")]
#[tokio::test]
async fn neither_the_subjects_nor_the_actors_token_nor_an_assertion_is_ever_shown() {
    const SECRETS: [&str; 3] = ["needle-subject", "needle-actor", "hush-hush"];
    let exchange = TokenExchange::new().actor_token(SECRETS[1]);
    assert!(!format!("{exchange:?}").contains("needle"));
    let key = TokenKey::new().on_behalf_of(subject(SECRETS[0]));
    assert!(!format!("{key:?}").contains("needle"));
    for builder in [
        client().token_exchange(exchange.clone()),
        client().jwt_bearer_on_behalf_of().secret_param("other", SECRETS[1]),
    ] {
        assert!(!format!("{builder:?}").contains("needle"));
        let service = Scripted::new([answer(400, echo(&SECRETS))]);
        let endpoint = builder.transport(service).build().unwrap();
        let request = super::support::request_for(&key);
        let error = tower_bearer::TokenSource::fetch(&endpoint, request).await.unwrap_err();
        let said = cause(&error);
        assert_eq!(said.error_description(), Some("no good: *** *** ***"));
        assert_eq!(said.error_uri(), Some("https://auth.example.com/?***&***&***"));
        assert_eq!(said.claims(), Some(r#"{"access_token":"*** *** ***"}"#));
        let all = format!("{} {endpoint:?} {:?}", shown(&error), said.claims());
        assert!(!all.contains("needle") && !all.contains("hush"), "{all}");
    }
}

#[tokio::test]
async fn neither_a_fixed_subject_token_nor_an_assertion_is_ever_shown() {
    for builder in [
        client().token_exchange(TokenExchange::new().subject_token("needle-subject")),
        client().jwt_bearer("needle-subject"),
    ] {
        assert!(!format!("{builder:?}").contains("needle"));
        let echo = echo(&["needle-subject"]);
        let error = fetch_with(builder, answer(400, echo)).await.unwrap_err();
        assert!(!shown(&error).contains("needle"), "{error:?}");
        assert_eq!(cause(&error).error_description(), Some("no good: ***"));
    }
}

#[tokio::test]
async fn an_issued_type_is_shown_without_secrets() {
    let builder = client().token_exchange(fixed().requested_token_type(TokenType::Jwt));
    let body = said("of-the-program at\\u0007", "Bearer");
    let error = fetch_with(builder, answer(200, body)).await.unwrap_err();
    assert!(error.to_string().contains("`*** ***?` in place of"), "{error}");
}
