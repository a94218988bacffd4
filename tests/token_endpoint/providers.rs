//! The named providers: the request as their documents have it, and the documented answer.

use std::time::Duration;

use tower_bearer::{
    AccessToken, Secret, TokenSource,
    oauth2::{Field, TokenEndpointBuilder, providers},
};

use super::support::{Scripted, Seen, answer, cause, fetch, fetch_with};

const USER_AGENT: &str = concat!("tower-bearer/", env!("CARGO_PKG_VERSION"));

async fn exchange(builder: TokenEndpointBuilder, body: &'static str) -> (Seen, AccessToken) {
    let service = Scripted::new([answer(200, body)]);
    let endpoint = builder.transport(service.clone()).build().unwrap();
    let token = fetch(&endpoint).await.unwrap();
    let seen = service.seen().remove(0);
    assert_eq!(seen.method, "POST");
    assert_eq!(seen.header("accept"), "application/json");
    assert_eq!(seen.header("user-agent"), USER_AGENT);
    (seen, token)
}

#[tokio::test]
async fn ibm_cloud_is_asked_as_documented() {
    let (seen, token) = exchange(
        providers::ibm_cloud("my-key_0"),
        r#"{"access_token":"eyJhbGciOi","expiration":1512161390,"expires_in":3600,
            "refresh_token":"not_supported","token_type":"Bearer"}"#,
    )
    .await;
    assert_eq!(seen.uri, "https://iam.cloud.ibm.com/identity/token");
    assert_eq!(seen.header_names(), ["accept", "content-type", "user-agent"]);
    assert_eq!(seen.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(
        seen.body,
        "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey=my-key_0"
    );
    assert_eq!(token.secret(), "eyJhbGciOi");
    assert_eq!(token.lifetime(), Some(Duration::from_secs(3600)));
    assert_eq!(token.refresh_token(), None);
}

#[tokio::test]
async fn ibm_cloud_shows_its_code_and_message_and_not_the_key() {
    let body = r#"{"errorCode":"BXNIM0415E","errorMessage":"Provided API key my-key_0 could not
        be found.","errorDetails":"details","context":{"requestId":"xxx"}}"#;
    let error = fetch_with(providers::ibm_cloud("my-key_0"), answer(400, body.replace('\n', "")));
    let error = error.await.unwrap_err();
    assert_eq!(cause(&error).error(), Some("BXNIM0415E"));
    let text = error.to_string();
    assert!(text.contains("BXNIM0415E: Provided API key *** could"), "{text}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn ibm_cloud_takes_the_key_from_the_file_that_its_command_line_writes() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let json = r#"{"name":"ci","apikey":"my-key_1","created_at":"2024-01-01T00:00+0000"}"#;
    std::fs::write(file.path(), json).unwrap();
    let key = Secret::json_file(file.path(), "apikey");
    let (seen, _) = exchange(providers::ibm_cloud(key), r#"{"access_token":"t"}"#).await;
    assert!(seen.body.ends_with("&apikey=my-key_1"), "{}", seen.body);
}

#[tokio::test]
async fn ibm_verify_is_asked_as_documented() {
    let (seen, token) = exchange(
        providers::ibm_verify("tenant.verify.ibm.com", "my-id", "my secret&"),
        r#"{"access_token":"wj0LQ4tPUDTz5L","grant_id":"b7d4","token_type":"Bearer","expires_in":7200}"#,
    )
    .await;
    assert_eq!(seen.uri, "https://tenant.verify.ibm.com/v1.0/endpoint/default/token");
    assert_eq!(seen.header_names(), ["accept", "content-type", "user-agent"]);
    assert_eq!(seen.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(
        seen.body,
        "grant_type=client_credentials&client_id=my-id&client_secret=my+secret%26"
    );
    assert_eq!(token.secret(), "wj0LQ4tPUDTz5L");
    assert_eq!(token.lifetime(), Some(Duration::from_secs(7200)));
}

#[tokio::test]
async fn ibm_verify_can_be_asked_elsewhere_and_for_a_scope() {
    let url = "https://tenant.verify.ibm.com/oidc/endpoint/default/token";
    let builder = providers::ibm_verify("tenant.verify.ibm.com", "id", "secret").url(url);
    let (seen, _) = exchange(builder.scope("openid"), r#"{"access_token":"t"}"#).await;
    assert_eq!(seen.uri, url);
    assert!(seen.body.ends_with("&client_secret=secret&scope=openid"), "{}", seen.body);
}

#[tokio::test]
async fn greennode_is_asked_as_documented() {
    let (seen, token) = exchange(
        providers::greennode("my-id", "s3 cr%t~"),
        r#"{"token_type":"Bearer","access_token":"eyJhbGciOiJSUz","expires_in":36000}"#,
    )
    .await;
    assert_eq!(seen.uri, "https://iam.api.greennode.ai/accounts/v2/auth/token");
    assert_eq!(seen.header_names(), ["accept", "authorization", "content-type", "user-agent"]);
    assert_eq!(seen.header("content-type"), "application/x-www-form-urlencoded");
    // As it is: base64("my-id:s3 cr%t~").
    assert_eq!(seen.header("authorization"), "Basic bXktaWQ6czMgY3IldH4=");
    assert!(seen.headers["authorization"].is_sensitive());
    assert_eq!(seen.body, "grant_type=client_credentials");
    assert_eq!(token.lifetime(), Some(Duration::from_secs(36_000)));
}

#[tokio::test]
async fn the_older_greennode_is_understood_with_its_own_names() {
    let builder = providers::greennode("id", "secret")
        .field(Field::AccessToken, "accessToken")
        .field(Field::ExpiresIn, "expiresIn");
    let (_, token) = exchange(builder, r#"{"accessToken":"tok","expiresIn":1800}"#).await;
    assert_eq!((token.secret(), token.lifetime()), ("tok", Some(Duration::from_secs(1800))));
}

#[tokio::test]
async fn ianum_is_asked_as_documented_and_its_baerer_is_a_bearer() {
    let (seen, token) = exchange(
        providers::ianum("gate_0123456789abc", "my \"secret\""),
        r#"{"access_token":"EAWkU7g","token_type":"Baerer","expires_in":3600}"#,
    )
    .await;
    assert_eq!(seen.uri, "https://api-auth.ianum.com/v1_3/oauth/token");
    assert_eq!(seen.header_names(), ["accept", "content-type", "user-agent"]);
    assert_eq!(seen.header("content-type"), "application/json");
    assert_eq!(
        seen.body,
        r#"{"client_id":"gate_0123456789abc","client_secret":"my \"secret\"","grant_type":"client_credentials"}"#
    );
    assert_eq!(token.header_value(), "Bearer EAWkU7g");
    assert_eq!(token.lifetime(), Some(Duration::from_secs(3600)));
}

#[test]
fn ianum_has_more_time_than_the_others() {
    let timeout = |builder: TokenEndpointBuilder| {
        builder.transport(Scripted::default()).build().unwrap().attempt_timeout()
    };
    assert!(timeout(providers::ianum("id", "secret")) >= Some(Duration::from_secs(120)));
    assert_eq!(timeout(providers::greennode("id", "secret")), None);
}
