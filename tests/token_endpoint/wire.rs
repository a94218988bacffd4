//! What goes over the wire, setting by setting.

use tower_bearer::oauth2::{BodyFormat, ClientAuth, TokenEndpoint};

use super::support::{URL, client, sent};

fn anonymous() -> tower_bearer::oauth2::TokenEndpointBuilder {
    TokenEndpoint::builder(URL).grant_type("urn:x").client_auth(ClientAuth::None)
}

#[tokio::test]
async fn basic_is_form_urlencoded_first_and_a_space_is_percent_20() {
    let builder = TokenEndpoint::builder(URL).client_id("a b:c").client_secret("p%+é");
    let seen = sent(builder).await;
    // base64("a%20b%3Ac:p%25%2B%C3%A9")
    assert_eq!(seen.header("authorization"), "Basic YSUyMGIlM0FjOnAlMjUlMkIlQzMlQTk=");
    assert!(seen.headers["authorization"].is_sensitive());
    assert_eq!(seen.body, "grant_type=client_credentials");
    assert_eq!((seen.method.as_str(), seen.uri.to_string().as_str()), ("POST", URL));
}

#[tokio::test]
async fn credentials_in_the_body_are_not_in_a_header() {
    let seen = sent(client().client_auth(ClientAuth::Body)).await;
    assert_eq!(seen.header("authorization"), "");
    assert_eq!(seen.body, "grant_type=client_credentials&client_id=my-app&client_secret=hush-hush");
}

#[tokio::test]
async fn a_public_client_says_its_id_and_one_without_id_nothing() {
    let public = TokenEndpoint::builder(URL).client_id("my-app").client_auth(ClientAuth::None);
    let seen = sent(public).await;
    assert_eq!(seen.body, "grant_type=client_credentials&client_id=my-app");
    let seen = sent(TokenEndpoint::builder(URL).grant_type("urn:x")).await;
    assert_eq!((seen.body.as_str(), seen.header("authorization")), ("grant_type=urn%3Ax", ""));
}

#[tokio::test]
async fn a_client_with_an_id_or_a_secret_says_so_by_basic_whatever_the_grant() {
    let builder = || TokenEndpoint::builder(URL).grant_type("password");
    let id_alone = "Basic bXktYXBwOg==";
    let both = "Basic bXktYXBwOmh1c2gtaHVzaA==";
    for (builder, expected) in [
        (builder(), ""),
        (builder().client_id("my-app"), id_alone),
        (builder().client_id("my-app").client_secret("hush-hush"), both),
        (TokenEndpoint::builder(URL).client_id("my-app"), id_alone),
        (client().refresh_token("rt-0"), both),
    ] {
        assert_eq!(sent(builder).await.header("authorization"), expected);
    }
}

#[tokio::test]
async fn scope_audience_resources_and_parameters_follow_in_that_order() {
    let builder = client()
        .param("claims", "{\"a\"}")
        .scope("read write")
        .resource("https://a.example/?x=1")
        .audience("api://orders")
        .resource("urn:b");
    assert_eq!(
        sent(builder).await.body,
        "grant_type=client_credentials&scope=read+write&audience=api%3A%2F%2Forders\
         &resource=https%3A%2F%2Fa.example%2F%3Fx%3D1&resource=urn%3Ab&claims=%7B%22a%22%7D"
    );
}

#[tokio::test]
async fn a_json_body_has_its_members_in_order_and_repeated_ones_as_an_array() {
    let builder = client()
        .body_format(BodyFormat::Json)
        .resource("urn:a")
        .resource("urn:b")
        .scope("email")
        .param("note", "a\"b\\c\u{7}\u{e9}");
    let seen = sent(builder).await;
    assert_eq!(seen.header("content-type"), "application/json");
    assert_eq!(seen.header("authorization"), "Basic bXktYXBwOmh1c2gtaHVzaA==");
    assert_eq!(
        seen.body,
        "{\"grant_type\":\"client_credentials\",\"note\":\"a\\\"b\\\\c\\u0007\u{e9}\",\
         \"resource\":[\"urn:a\",\"urn:b\"],\"scope\":\"email\"}"
    );
}

#[tokio::test]
async fn another_grant_sends_its_own_parameters() {
    let builder = TokenEndpoint::builder(URL)
        .grant_type("urn:ietf:params:oauth:grant-type:jwt-bearer")
        .param("assertion", "eyJ.eyJ.sig");
    assert_eq!(
        sent(builder).await.body,
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=eyJ.eyJ.sig"
    );
}

#[tokio::test]
async fn extra_headers_are_sent_as_sensitive_ones_and_may_repeat() {
    let builder = anonymous()
        .header("X-Api-Key", "k1")
        .header("x-api-key", "k2")
        .header("Accept", "application/jwt")
        .user_agent("my-app/7");
    let seen = sent(builder).await;
    let keys: Vec<_> = seen.headers.get_all("x-api-key").iter().collect();
    assert_eq!(keys, ["k1", "k2"]);
    assert!(keys.iter().all(|key| key.is_sensitive()));
    assert_eq!(seen.header("accept"), "application/jwt");
    assert_eq!(seen.header("user-agent"), "my-app/7");
    assert_eq!(seen.header("content-type"), "application/x-www-form-urlencoded");
}

#[tokio::test]
async fn a_user_agent_is_sent_because_some_firewalls_want_one() {
    let expected = concat!("tower-bearer/", env!("CARGO_PKG_VERSION"));
    assert_eq!(sent(client()).await.header("user-agent"), expected);
}

#[tokio::test]
async fn the_query_of_the_url_is_kept() {
    let seen = sent(client().url("https://auth.example.com/token?api-version=2")).await;
    assert_eq!(seen.uri, "https://auth.example.com/token?api-version=2");
}
