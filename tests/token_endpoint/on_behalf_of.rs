//! Assertions (RFC 7523 §2.1): Microsoft Entra's on-behalf-of, and the errors that a user has to see.

use tower_bearer::{
    TokenError, TokenKey,
    oauth2::{BodyFormat, ClientAuth, TokenEndpoint, TokenEndpointBuilder, providers},
};

use super::support::{
    OK, Scripted, URL, answer, body_for, cause, client, fetch_for, fetch_with, sent, subject,
};

const JWT_BEARER: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";

fn alice() -> TokenKey {
    TokenKey::new().on_behalf_of(subject("eyJ0eXAiOiJKV1Qi"))
}

fn entra() -> TokenEndpointBuilder {
    providers::entra_on_behalf_of("contoso.onmicrosoft.com", "535fb089", "sampleCredentia1s")
}

// ===== Requests =====

#[tokio::test]
async fn entra_is_asked_as_documented() {
    let answered = r#"{"token_type":"Bearer","scope":"https://graph.microsoft.com/user.read",
        "expires_in":3269,"ext_expires_in":0,"access_token":"eyJ0eXAi","refresh_token":"OAQAB"}"#;
    let builder = entra().scope("https://graph.microsoft.com/user.read");
    let (mut seen, outcome) = fetch_for(&alice(), builder, answer(200, answered)).await;
    let seen = seen.remove(0);
    assert_eq!(
        seen.uri,
        "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token"
    );
    assert_eq!(seen.header_names(), ["accept", "content-type", "user-agent"]);
    assert_eq!(
        seen.body,
        format!(
            "{JWT_BEARER}&client_id=535fb089&client_secret=sampleCredentia1s\
             &assertion=eyJ0eXAiOiJKV1Qi&scope=https%3A%2F%2Fgraph.microsoft.com%2Fuser.read\
             &requested_token_use=on_behalf_of"
        )
    );
    let token = outcome.unwrap();
    assert_eq!(token.secret(), "eyJ0eXAi");
    assert_eq!(token.scope(), Some("https://graph.microsoft.com/user.read"));
    assert_eq!(token.lifetime().map(|lifetime| lifetime.as_secs()), Some(3269));
    assert_eq!(token.refresh_token(), None);
}

#[tokio::test]
async fn the_scope_of_the_key_goes_to_entra_in_place_of_the_endpoints() {
    let key = alice().scope("api://billing/.default");
    let body = body_for(&key, entra().scope("https://graph.microsoft.com/.default")).await;
    assert_eq!(
        body,
        format!(
            "{JWT_BEARER}&client_id=535fb089&client_secret=sampleCredentia1s\
             &assertion=eyJ0eXAiOiJKV1Qi&scope=api%3A%2F%2Fbilling%2F.default\
             &requested_token_use=on_behalf_of"
        )
    );
}

#[tokio::test]
async fn an_assertion_is_redeemed_in_a_form_and_in_json() {
    let body = sent(client().jwt_bearer("a.b.c").scope("x")).await.body;
    assert_eq!(body, format!("{JWT_BEARER}&scope=x&assertion=a.b.c"));

    let builder = TokenEndpoint::builder(URL).client_id("me").client_auth(ClientAuth::None);
    let body = sent(builder.body_format(BodyFormat::Json).jwt_bearer("a.b.c")).await.body;
    let json = r#"{"assertion":"a.b.c","client_id":"me","grant_type":"urn:ietf:params:oauth:grant-type:jwt-bearer"}"#;
    assert_eq!(body, json);
}

#[tokio::test]
async fn the_subjects_token_is_the_assertion() {
    let body = body_for(&alice(), client().jwt_bearer_on_behalf_of()).await;
    assert_eq!(body, format!("{JWT_BEARER}&assertion=eyJ0eXAiOiJKV1Qi"));
}

#[test]
fn the_subjects_token_is_the_only_assertion() {
    let builder = client().jwt_bearer_on_behalf_of().secret_param("assertion", "another");
    let error = builder.transport(Scripted::new([])).build().unwrap_err().to_string();
    assert!(error.contains("\"assertion\""), "{error}");
}

#[test]
fn a_tenant_that_was_never_filled_in_is_found() {
    let builder = providers::entra_on_behalf_of("<tenant>", "id", "secret");
    let error = builder.transport(Scripted::new([])).build().unwrap_err().to_string();
    assert!(error.contains("placeholder"), "{error}");
}

// ===== Errors that a user has to see =====

async fn refused(body: impl Into<bytes::Bytes>) -> TokenError {
    fetch_for(&alice(), entra(), answer(400, body)).await.1.unwrap_err()
}

#[tokio::test]
async fn the_error_for_a_policy_that_wants_more_of_the_user_has_its_claims() {
    let body = r#"{
        "error":"interaction_required",
        "error_description":"AADSTS50079: Due to a configuration change made by your administrator, or because you moved to a new location, you must enroll in multifactor authentication to access 'bf8d80f9-9098-4972-b203-500f535113b1'.\r\nTrace ID: b72a68c3-0926-4b8e-bc35-3150069c2800",
        "error_codes":[50079],
        "error_uri":"https://login.microsoftonline.com/error?code=50079",
        "suberror":"basic_action",
        "claims":"{\"access_token\":{\"polids\":{\"essential\":true,\"values\":[\"9ab03e19-ed42-4168-b6b7-7001fb3e933a\"]}}}"
    }"#;
    let error = refused(body).await;
    assert!(!error.is_transient() && error.concerns_key_only());
    let said = cause(&error);
    assert_eq!(said.error(), Some("interaction_required"));
    assert!(said.needs_interaction());
    assert_eq!(said.error_uri(), Some("https://login.microsoftonline.com/error?code=50079"));
    let claims = r#"{"access_token":{"polids":{"essential":true,"values":["9ab03e19-ed42-4168-b6b7-7001fb3e933a"]}}}"#;
    assert_eq!(said.claims(), Some(claims));
    assert!(error.to_string().contains("interaction_required: AADSTS50079: Due to"), "{error}");
}

#[tokio::test]
async fn an_error_that_only_the_user_can_mend_says_so() {
    for (code, needs) in [
        ("interaction_required", true),
        ("login_required", true),
        ("consent_required", true),
        ("insufficient_claims", true),
        ("invalid_grant", false),
        ("invalid_client", false),
        ("access_denied", false),
    ] {
        let error = refused(format!(r#"{{"error":"{code}"}}"#)).await;
        assert_eq!(cause(&error).needs_interaction(), needs, "{code}");
        assert_eq!((cause(&error).error(), cause(&error).claims()), (Some(code), None));
    }
    let with_claims = r#"{"error":"invalid_grant","claims":"{}"}"#;
    assert!(cause(&refused(with_claims).await).needs_interaction());
}

#[tokio::test]
async fn claims_are_a_text_or_an_object_in_printable_ascii_of_four_kib_at_most() {
    let text = |length| format!("\"{}\"", "x".repeat(length));
    for (claims, expected) in [
        (r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#.to_owned(), true),
        (text(4096), true),
        (text(4097), false),
        (format!(r#"{{"a":{}}}"#, text(4088)), true),
        (format!(r#"{{"a":{}}}"#, text(4089)), false),
        ("\"caf\u{e9}\"".to_owned(), false),
        (r#""a\nb""#.to_owned(), false),
        (r#"{"a":"caf\u00e9"}"#.to_owned(), true),
        ("\"\"".to_owned(), false),
        ("null".to_owned(), false),
        ("7".to_owned(), false),
        ("[\"a\"]".to_owned(), false),
    ] {
        let error = refused(format!(r#"{{"error":"x","claims":{claims}}}"#)).await;
        let said = cause(&error).claims();
        let expected = expected.then(|| claims.trim_matches('"'));
        assert!(said == expected, "{}", claims.len());
    }
}

#[tokio::test]
async fn claims_in_an_answer_with_a_token_are_ignored() {
    let body = r#"{"access_token":"at","claims":{"a":1},"error_uri":"https://a.example"}"#;
    assert_eq!(fetch_with(client(), answer(200, body)).await.unwrap().secret(), "at");
    let (_, outcome) = fetch_for(&alice(), entra(), answer(200, OK)).await;
    assert_eq!(outcome.unwrap().secret(), "at-1");
}
