//! Configuration as data: what it makes, and what is said of what it cannot be.

#[path = "common/scripted.rs"]
mod scripted;

use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;
use tower_bearer::{
    AccessToken, Reason, RefreshPolicy, Secret, Subject, TokenKey, TokenRequest, TokenSource,
    oauth2::Config,
};

use self::scripted::{Scripted, answer};

/// What must never be shown.
const HUSH: &str = "hunter2";

/// What arrives at the token service: URL, headers, body.
type Seen = (String, HeaderMap, String);

fn toml(text: &str) -> Config {
    toml::from_str(text).unwrap()
}

/// The request that the configuration causes.
async fn request(config: &Config) -> Seen {
    request_for(config, TokenRequest::new(Reason::First)).await
}

async fn request_for(config: &Config, request: TokenRequest) -> Seen {
    let service = Scripted::new([answer(200, r#"{"access_token":"abc","token":"abc"}"#)]);
    let endpoint = config.builder().transport(service.clone()).build().unwrap();
    endpoint.fetch(request).await.unwrap();
    let seen = service.seen().remove(0);
    (seen.uri.to_string(), seen.headers, seen.body)
}

fn file(content: &str) -> tempfile::TempPath {
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&path, content).unwrap();
    path
}

// ===== What it makes =====

#[tokio::test]
async fn the_settings_of_an_endpoint_arrive_on_the_wire() {
    let secret = file(HUSH);
    let config = toml(&format!(
        r#"
        url = "https://auth.example.com/token"
        name = "billing"
        client_id = "me"
        client_secret = {{ file = {secret:?} }}
        client_auth = "body"
        body_format = "json"
        grant_type = "urn:example"
        scope = "a b"
        audience = "api"
        resource = ["https://a.example", "https://b.example"]
        params = {{ assertion = {{ file = {secret:?} }}, kind = {{ text = "plain" }} }}
        headers = {{ x-tenant = "t", x-key = {{ file = {secret:?} }} }}
        fields = {{ access_token = "token" }}
        user_agent = "mine"
        timeout = 2.5
        connect_timeout = 1
        "#
    ));
    let (url, headers, body) = request(&config).await;
    assert_eq!(url, "https://auth.example.com/token");
    assert_eq!(headers["x-tenant"], "t");
    assert_eq!(headers["x-key"], HUSH);
    assert_eq!(headers["user-agent"], "mine");
    let expected = r#"{"assertion":"hunter2","audience":"api","client_id":"me","client_secret":"hunter2","grant_type":"urn:example","kind":"plain","resource":["https://a.example","https://b.example"],"scope":"a b"}"#;
    assert_eq!(body, expected);

    let endpoint = config.builder().transport(Scripted::new([])).build().unwrap();
    assert_eq!(endpoint.name(), Some("billing"));
    // Two exchanges and a margin.
    assert_eq!(endpoint.attempt_timeout(), Some(Duration::from_secs(6)));
    assert!(!format!("{config:?}").contains(HUSH));
}

#[tokio::test]
async fn a_refresh_token_is_exchanged() {
    let secret = file("r1");
    let config = toml(&format!(
        "url = 'https://auth.example.com'\nclient_id = 'me'\nclient_auth = 'none'\n\
         grant_type = 'refresh_token'\nrefresh_token = {{ file = {secret:?} }}"
    ));
    let (_, _, body) = request(&config).await;
    assert_eq!(body, "grant_type=refresh_token&client_id=me&refresh_token=r1");
}

const EXCHANGE: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange";

#[tokio::test]
async fn a_token_is_exchanged() {
    let secret = file("s1");
    let config = toml(&format!(
        r#"
        url = "https://auth.example.com"
        [token_exchange]
        subject_token = {{ file = {secret:?} }}
        subject_token_type = "jwt"
        actor_token = {{ file = {secret:?} }}
        actor_token_type = "urn:example:ticket"
        requested_token_type = "access_token"
        "#
    ));
    let (_, _, body) = request(&config).await;
    let uri = "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3A";
    let expected = format!(
        "{EXCHANGE}&subject_token=s1&subject_token_type={uri}jwt&actor_token=s1\
         &actor_token_type=urn%3Aexample%3Aticket&requested_token_type={uri}access_token"
    );
    assert_eq!(body, expected);
    let keys: Vec<_> = config.secrets().map(|(key, _)| key).collect();
    assert_eq!(keys, ["token_exchange.subject_token", "token_exchange.actor_token"]);
}

#[tokio::test]
async fn an_assertion_is_redeemed() {
    let secret = file("a1");
    let config =
        toml(&format!("url = 'https://auth.example.com'\njwt_bearer = {{ file = {secret:?} }}"));
    let (_, _, body) = request(&config).await;
    let expected = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=a1";
    assert_eq!(body, expected);
}

/// The request for a user.
async fn request_of_alice(config: &Config) -> Seen {
    let alice = Subject::new(AccessToken::new("alice").unwrap());
    let key = TokenKey::new().on_behalf_of(alice);
    request_for(config, TokenRequest::new(Reason::First).with_key(key)).await
}

#[tokio::test]
async fn a_user_is_acted_for() {
    let secret = file(HUSH);
    let exchange = toml("url = 'https://auth.example.com'\ntoken_exchange = {}");
    let (_, _, body) = request_of_alice(&exchange).await;
    let access_token = "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token";
    let expected = format!("{EXCHANGE}&subject_token=alice&subject_token_type={access_token}");
    assert_eq!(body, expected);

    let assertion = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
    let config = toml("url = 'https://auth.example.com'\njwt_bearer_on_behalf_of = true");
    let (_, _, body) = request_of_alice(&config).await;
    assert_eq!(body, format!("{assertion}&assertion=alice"));

    let entra = toml(&format!(
        "provider = 'entra_on_behalf_of'\ntenant = 'contoso.com'\nclient_id = 'me'\n\
         client_secret = {{ file = {secret:?} }}\nscope = 'api://x/.default'"
    ));
    let (url, _, body) = request_of_alice(&entra).await;
    assert_eq!(url, "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token");
    let expected = format!(
        "{assertion}&client_id=me&client_secret=hunter2&assertion=alice\
         &scope=api%3A%2F%2Fx%2F.default&requested_token_use=on_behalf_of"
    );
    assert_eq!(body, expected);
}

#[tokio::test]
async fn ibm_cloud_needs_an_api_key_and_nothing_else() {
    let key = file(r#"{"apikey":"hunter2","name":"me"}"#);
    let config = toml(&format!(
        "provider = 'ibm_cloud'\napi_key = {{ json_file = {key:?}, member = 'apikey' }}"
    ));
    let (url, headers, body) = request(&config).await;
    assert_eq!(url, "https://iam.cloud.ibm.com/identity/token");
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    let expected = "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey=hunter2";
    assert_eq!(body, expected);
}

#[tokio::test]
async fn the_others_need_a_client() {
    let secret = file(HUSH);
    let client = format!("client_id = 'me'\nclient_secret = {{ file = {secret:?} }}");

    let verify = toml(&format!("provider = 'ibm_verify'\ntenant = 't.verify.ibm.com'\n{client}"));
    let (url, _, body) = request(&verify).await;
    assert_eq!(url, "https://t.verify.ibm.com/v1.0/endpoint/default/token");
    assert_eq!(body, "grant_type=client_credentials&client_id=me&client_secret=hunter2");

    let (url, headers, body) = request(&toml(&format!("provider = 'greennode'\n{client}"))).await;
    assert_eq!(url, "https://iam.api.greennode.ai/accounts/v2/auth/token");
    assert_eq!(headers["authorization"], "Basic bWU6aHVudGVyMg==");
    assert_eq!(body, "grant_type=client_credentials");

    let (url, _, body) = request(&toml(&format!("provider = 'ianum'\n{client}"))).await;
    assert_eq!(url, "https://api-auth.ianum.com/v1_3/oauth/token");
    let expected =
        r#"{"client_id":"me","client_secret":"hunter2","grant_type":"client_credentials"}"#;
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_provider_that_takes_an_assertion_needs_no_secret() {
    let token = file("eyJ0.e30.c2ln");
    let proof =
        format!("client_id = 'me'\nclient_assertion = {{ token = {{ file = {token:?} }} }}");
    let begin = "grant_type=client_credentials&client_id=me&client_assertion_type=urn%3Aietf%3A\
                 params%3Aoauth%3Aclient-assertion-type%3Ajwt-";
    for (provider, expected) in [
        (
            "'entra'\ntenant = 'contoso.com'",
            "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token",
        ),
        ("'okta'\ndomain = 'a.okta.com'", "https://a.okta.com/oauth2/v1/token"),
        (
            "'okta'\ndomain = 'a.okta.com'\nauthorization_server = 'default'",
            "https://a.okta.com/oauth2/default/v1/token",
        ),
        (
            "'keycloak'\nbase_url = 'https://sso.example.com'\nrealm = 'acme'",
            "https://sso.example.com/realms/acme/protocol/openid-connect/token",
        ),
    ] {
        let (url, _, body) = request(&toml(&format!("provider = {provider}\n{proof}"))).await;
        assert_eq!(url, expected);
        assert_eq!(body, format!("{begin}bearer&client_assertion=eyJ0.e30.c2ln"));
    }
    let auth0 = "provider = 'auth0'\ndomain = 'a.auth0.com'\naudience = 'api'";
    let (url, _, body) = request(&toml(&format!("{auth0}\n{proof}"))).await;
    assert_eq!(url, "https://a.auth0.com/oauth/token");
    assert!(body.starts_with(r#"{"audience":"api","client_assertion":"eyJ0.e30.c2ln""#), "{body}");

    let svid = toml(&format!(
        "url = 'https://auth.example.com'\nclient_id = 'me'\n\
         client_assertion = {{ token = {{ file = {token:?} }}, assertion_type = 'jwt_spiffe' }}"
    ));
    let (_, _, body) = request(&svid).await;
    assert_eq!(body, format!("{begin}spiffe&client_assertion=eyJ0.e30.c2ln"));
    let keys: Vec<_> = svid.secrets().map(|(key, _)| key).collect();
    assert_eq!(keys, ["client_assertion.token"]);
}

#[cfg(feature = "jwt")]
#[tokio::test]
async fn what_signs_an_assertion_is_data_too() {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/keys");
    let said = |body: &str| {
        let (_, jwt) = body.rsplit_once("assertion=").unwrap();
        let mut parts = jwt.split('&').next().unwrap().split('.');
        let mut part = || BASE64_URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap();
        format!("{} {}", String::from_utf8(part()).unwrap(), String::from_utf8(part()).unwrap())
    };
    let with = |proof: String| {
        toml(&format!(
            "url = 'https://a.example/token'\nclient_id = 'me'\n[client_assertion]\n{proof}"
        ))
    };
    let config = with(format!(
        "private_key = {{ file = '{keys}/rsa.pem' }}\ncertificate = {{ file = '{keys}/rsa.crt.pem' }}\n\
         key_id = 'k'\nalgorithm = 'PS256'\nissuer = 'https://a.example'\nheader_type = 'JWT'\n\
         lifetime = 90"
    ));
    let names: Vec<_> = config.secrets().map(|(key, _)| key).collect();
    assert_eq!(names, ["client_assertion.private_key", "client_assertion.certificate"]);
    let (_, _, body) = request(&config).await;
    let text = said(&body);
    assert!(text.starts_with(r#"{"alg":"PS256","typ":"JWT","kid":"k","x5t#S256":""#), "{text}");
    assert!(text.contains(r#""sub":"me","aud":"https://a.example","#), "{text}");

    let secret = file(&HUSH.repeat(8));
    for (audience, expected) in [
        ("token_endpoint_audience = true", "https://a.example/token"),
        ("audience = 'urn:a'", "urn:a"),
    ] {
        let config = with(format!("client_secret = {{ file = {secret:?} }}\n{audience}"));
        let (_, _, body) = request(&config).await;
        let text = said(&body);
        assert!(text.starts_with(r#"{"alg":"HS256""#), "{text}");
        assert!(text.contains(&format!(r#""aud":"{expected}""#)), "{text}");
    }

    let key = std::fs::read_to_string(format!("{keys}/rsa.pem")).unwrap();
    let google = serde_json::json!({
        "type": "service_account", "client_email": "me@example", "private_key": key,
    });
    let google = file(&google.to_string());
    let config = toml(&format!(
        "provider = 'google_service_account'\nkey_file = {{ file = {google:?} }}\nscope = 'a'"
    ));
    let (url, _, body) = request(&config).await;
    assert_eq!(url, "https://oauth2.googleapis.com/token");
    assert!(said(&body).contains(r#""iss":"me@example""#), "{body}");
    let names: Vec<_> = config.secrets().map(|(key, _)| key).collect();
    assert_eq!(names, ["key_file"]);
}

#[cfg(feature = "jwt")]
#[test]
fn an_assertion_that_is_none_or_two_is_refused() {
    let of = |proof: &str| {
        refused::<Config>(&format!("url = 'https://a.example'\nclient_assertion = {{ {proof} }}"))
    };
    let key = "private_key = { file = 'a' }";
    let one_of =
        "`client_assertion` needs exactly one of `private_key`, `client_secret` and `token`";
    assert_eq!(of(""), one_of);
    assert_eq!(of(&format!("{key}, token = {{ file = 'b' }}")), one_of);
    let audience = of(&format!("{key}, issuer = 'https://a.example', audience = 'b'"));
    assert!(
        audience.starts_with("`client_assertion` may have only one of `issuer`, `audience`"),
        "{audience}"
    );
    for inline in ["private_key", "client_secret", "certificate", "token"] {
        let error = of(&format!("{inline} = 'hunter2'"));
        assert_eq!(error, format!("`client_assertion.{inline}`: {INLINE}"));
    }
    let error = of(&format!("{key}, algorithm = 'hunter2'"));
    assert!(error.starts_with("`client_assertion.algorithm`: must be `RS256`"), "{error}");
}

#[tokio::test]
async fn what_a_provider_sets_can_be_changed() {
    let secret = file(HUSH);
    let config = toml(&format!(
        "provider = 'greennode'\nurl = 'http://127.0.0.1:1/token'\nscope = 'email'\n\
         client_auth = 'body'\nclient_id = 'me'\nclient_secret = {{ file = {secret:?} }}"
    ));
    let (url, _, body) = request(&config).await;
    assert_eq!(url, "http://127.0.0.1:1/token");
    let expected = "grant_type=client_credentials&client_id=me&client_secret=hunter2&scope=email";
    assert_eq!(body, expected);
}

#[tokio::test]
async fn json_is_read_as_toml_is() {
    let secret = file(HUSH);
    let text = serde_json::json!({
        "provider": "ibm_verify", "tenant": "t.verify.ibm.com",
        "client_id": "me", "client_secret": { "file": secret.to_str() }, "timeout": 3,
    });
    let config: Config = serde_json::from_str(&text.to_string()).unwrap();
    let (url, _, body) = request(&config).await;
    assert_eq!(url, "https://t.verify.ibm.com/v1.0/endpoint/default/token");
    assert!(body.ends_with("client_secret=hunter2"), "{body}");
}

#[tokio::test]
async fn an_issuer_stands_in_place_of_the_url() {
    let metadata =
        r#"{"issuer":"https://issuer.example","token_endpoint":"https://token.example/token"}"#;
    let transport = Scripted::always(move |request| match request.uri.path() {
        "/token" => answer(200, r#"{"access_token":"abc"}"#),
        _ => answer(200, metadata),
    });
    let config = toml("issuer = 'https://issuer.example'\nclient_id = 'me'");
    let endpoint = config.builder().transport(transport).build().unwrap();
    let token = endpoint.fetch(TokenRequest::new(Reason::First)).await.unwrap();
    assert_eq!(token.secret(), "abc");
}

#[cfg(feature = "reqwest")]
#[tokio::test]
async fn a_client_certificate_is_kept_in_two_places() {
    let config = toml(
        r#"
        url = "https://auth.example.com/token"
        client_id = "me"
        client_certificate = { cert = { file = "/nowhere/a.pem" }, key = { env = "NEVER_SET" } }
        "#,
    );
    let keys: Vec<_> = config.secrets().map(|(key, _)| key).collect();
    assert_eq!(keys, ["client_certificate.cert", "client_certificate.key"]);
    let endpoint = config.builder().build().unwrap();
    let error = endpoint.fetch(TokenRequest::new(Reason::First)).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/a.pem"), "{error}");

    let error = refused::<Config>(
        "url = 'https://a.example'\nclient_certificate = { cert = { env = 'A' }, key = 'hunter2' }",
    );
    assert_eq!(error, format!("`client_certificate.key`: {INLINE}"));
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_found_before_it_is_needed() {
    let config = toml(
        r#"
        url = "https://auth.example.com"
        client_id = "me"
        client_secret = { env = "TOWER_BEARER_NEVER_SET" }
        params = { assertion = { file = "/nowhere/assertion" }, kind = { text = "plain" } }
        headers = { x-key = { file = "/nowhere/key" }, x-tenant = "t" }
        "#,
    );
    let mut found = Vec::new();
    for (key, secret) in config.secrets() {
        found.push((key, secret.read().await.map_err(|error| error.to_string()).err()));
    }
    let not_set = "the environment variable \"TOWER_BEARER_NEVER_SET\" is not set: export it to \
                   this program";
    let missing = "the file \"/nowhere/assertion\" does not exist: check the path, and whether \
                   it has been mounted";
    let expected = [
        ("client_secret", Some(not_set.to_owned())),
        ("assertion", Some(missing.to_owned())),
        ("kind", None),
        ("x-key", Some(missing.replace("assertion", "key"))),
    ];
    assert_eq!(found, expected);
}

// ===== What it refuses =====

const INLINE: &str = "a secret must not be written here: say where it is kept, with \
                      `{ env = \"NAME\" }` or `{ file = \"PATH\" }`";
const PLACES: &str = "a secret is kept in one place: `{ env = \"NAME\" }`, `{ file = \"PATH\" }` \
                      or `{ json_file = \"PATH\", member = \"NAME\" }`";

/// What is said of this TOML, and of the same as JSON.
fn refused<T: for<'de> Deserialize<'de> + std::fmt::Debug>(text: &str) -> String {
    let error = toml::from_str::<T>(text).unwrap_err();
    assert!(!error.to_string().contains(HUSH), "{error}");
    assert!(!error.message().contains(HUSH), "{}", error.message());
    let value: toml::Table = toml::from_str(text).unwrap();
    let json = serde_json::to_string(&value).unwrap();
    let json = serde_json::from_str::<T>(&json).unwrap_err().to_string();
    assert!(!json.contains(HUSH), "{json}");
    assert!(json.starts_with(error.message()), "{json} / {}", error.message());
    error.message().to_owned()
}

#[test]
fn a_secret_that_is_written_out_is_refused_by_its_key_and_not_repeated() {
    for inline in ["'hunter2'", "{ text = 'hunter2' }"] {
        for key in ["client_secret", "refresh_token", "api_key", "jwt_bearer"] {
            let error = refused::<Config>(&format!("url = 'https://a.example'\n{key} = {inline}"));
            assert_eq!(error, format!("`{key}`: {INLINE}"));
        }
    }
    for key in ["subject_token", "actor_token"] {
        let exchange =
            format!("url = 'https://a.example'\ntoken_exchange = {{ {key} = 'hunter2' }}");
        let error = refused::<Config>(&exchange);
        assert_eq!(error, format!("`token_exchange.{key}`: {INLINE}"));
    }
    let error = refused::<Config>("provider = 'ianum'\nparams = { password = 'hunter2' }");
    assert_eq!(error, format!("`params.password`: {INLINE}"));
    // A number is as secret as a text.
    for number in ["20041999", "-20041999", "2004.1999"] {
        let error = toml::from_str::<Config>(&format!("client_secret = {number}")).unwrap_err();
        assert_eq!(error.message(), format!("`client_secret`: {INLINE}"));
    }
}

#[test]
fn a_secret_is_kept_in_one_place() {
    for place in [
        "{}",
        "{ env = 'A', file = 'b' }",
        "{ env = 'A', text = 'hunter2' }",
        "{ json_file = 'a' }",
        "{ file = 'a', member = 'b' }",
    ] {
        let error = refused::<Config>(&format!("client_secret = {place}"));
        assert_eq!(error, format!("`client_secret`: {PLACES}"), "{place}");
    }
    let error = refused::<Config>("client_secret = { value = 'hunter2' }");
    assert!(error.starts_with("`client_secret.value`: unknown field `value`"), "{error}");
    toml::from_str::<Secret>("env = 'A'").unwrap();
}

#[test]
fn a_key_that_is_unknown_missing_or_misplaced_is_named() {
    for (text, expected) in [
        ("client_id = 'me'", "`url` is missing: write it, or an `issuer` or a `provider`"),
        ("url = 'a'\nissuer = 'b'", "`issuer` and `url` exclude each other: leave one out"),
        (
            "provider = 'ibm_cloud'\nissuer = 'b'\napi_key = { env = 'A' }",
            "`issuer` and `provider` exclude each other: leave one out",
        ),
        ("provider = 'ibm_cloud'", "`api_key` is missing, which `provider = \"ibm_cloud\"` needs"),
        ("provider = 'ibm_verify'", "`tenant` is missing, which `provider = \"ibm_verify\"` needs"),
        (
            "provider = 'greennode'",
            "`client_id` is missing, which `provider = \"greennode\"` needs",
        ),
        (
            "provider = 'ianum'\nclient_id = 'me'",
            "`client_secret` is missing, which `provider = \"ianum\"` needs",
        ),
        (
            "url = 'a'\ntenant = 't'",
            "`tenant` is for `provider = \"ibm_verify\"` or `\"entra_on_behalf_of\"` or `\"entra\"` only",
        ),
        (
            "provider = 'entra_on_behalf_of'",
            "`tenant` is missing, which `provider = \"entra_on_behalf_of\"` needs",
        ),
        (
            "provider = 'ianum'\napi_key = { env = 'A' }",
            "`api_key` is for `provider = \"ibm_cloud\"` only",
        ),
        (
            "url = 'a'\ngrant_type = 'password'\nrefresh_token = { env = 'A' }",
            "`grant_type` does not fit `refresh_token`: leave it out",
        ),
        (
            "url = 'a'\ngrant_type = 'password'\ntoken_exchange = {}",
            "`grant_type` does not fit `token_exchange`: leave it out",
        ),
        (
            "url = 'a'\ntoken_exchange = {}\njwt_bearer_on_behalf_of = true",
            "`token_exchange` and `jwt_bearer_on_behalf_of` are two grants: leave one out",
        ),
        (
            "url = 'a'\nrefresh_token = { env = 'A' }\njwt_bearer = { env = 'A' }",
            "`refresh_token` and `jwt_bearer` are two grants: leave one out",
        ),
    ] {
        assert_eq!(refused::<Config>(text), expected);
    }
    let error = refused::<Config>("client_secrets = 'hunter2'");
    assert!(
        error.starts_with("unknown field `client_secrets`, expected one of `provider`"),
        "{error}"
    );
}

#[test]
fn a_value_of_the_wrong_kind_is_named_by_its_key() {
    let seconds = "must be a number of seconds that is not negative";
    for (text, expected) in [
        ("timeout = -1", format!("`timeout`: {seconds}")),
        ("timeout = 1e30", format!("`timeout`: {seconds}")),
        ("timeout = 'hunter2'", "`timeout`: invalid type: string, expected f64".to_owned()),
        ("client_id = 5", "`client_id`: invalid type: integer, expected a string".to_owned()),
        (
            "headers = 'x-api-key: hunter2'",
            "`headers`: invalid type: string, expected a map".to_owned(),
        ),
        ("params = 'a=hunter2'", "`params`: invalid type: string, expected a map".to_owned()),
    ] {
        assert_eq!(refused::<Config>(text), expected);
    }
    let providers =
        "`ibm_cloud`, `ibm_verify`, `greennode`, `ianum`, `entra_on_behalf_of`, `entra`";
    for (key, choices) in [
        ("system", providers),
        ("provider", providers),
        ("client_auth", "`basic`, `basic_raw`, `body`, `none`"),
    ] {
        for written in ["none_of_these", HUSH] {
            let error = refused::<Config>(&format!("{key} = '{written}'"));
            let expected = format!("`{key}`: unknown variant, expected one of {choices}");
            assert!(error.starts_with(&expected), "{error}");
        }
    }
    let error = refused::<Config>("body_format = 'hunter2'");
    assert_eq!(error, "`body_format`: unknown variant, expected `form` or `json`");
    let error = refused::<Config>("fields = { hunter2 = 'a' }");
    assert!(error.starts_with("`fields`: unknown variant, expected one of `access_token`"));
}

#[test]
fn a_secret_that_stands_in_a_wrong_place_is_not_shown_whatever_is_said_of_it() {
    for text in [
        "hunter2 = 'client_secret'",
        "client_secret = { hunter2 = 'file' }",
        "client_secret = { file = ['hunter2'] }",
        "client_secret = { file = { hunter2 = 1 } }",
        "client_secret = ['hunter2']",
        "client_secret = [{ hunter2 = 1 }]",
        "provider = 'hunter2'",
        "provider = { hunter2 = 1 }",
        "client_auth = { hunter2 = 'basic' }",
        "client_auth = 'hunter2, expected `x`'",
        "token_exchange = 'hunter2'",
        "token_exchange = { hunter2 = 1 }",
        "token_exchange = { actor_token_type = 'hunter2' }",
        "url = ['hunter2']",
        "url = { hunter2 = 1 }",
        "resource = 'hunter2'",
        "resource = [['hunter2']]",
        "headers = { x = ['hunter2'] }",
        "headers = { x = { hunter2 = 1 } }",
        "params = { x = { text = ['hunter2'] } }",
        "params = ['hunter2']",
        "fields = { scope = ['hunter2'] }",
        "timeout = 'hunter2'",
        "timeout = ['hunter2']",
        "allow_plaintext = 'hunter2'",
        "'hunter2 = \"x\"' = 1",
        "\"`hunter2`, expected \" = 1",
    ] {
        // `refused` looks for it in everything that is said.
        let error = refused::<Config>(text);
        assert!(!error.is_empty(), "{text}");
    }
    for number in ["20041999", "-20041999", "2004.1999"] {
        for key in ["client_id", "client_auth", "headers", "resource", "fields", "allow_plaintext"]
        {
            let error = toml::from_str::<Config>(&format!("{key} = {number}")).unwrap_err();
            assert!(!error.message().contains("1999"), "{error}");
            assert!(error.message().contains(&format!("`{key}`: invalid type: ")), "{error}");
        }
    }
}

#[test]
fn an_error_of_a_configuration_claims_no_line_that_it_does_not_know() {
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "it is not made")]
    struct File {
        first: Option<Config>,
        second: Option<Config>,
    }
    let error = toml::from_str::<Config>("url = 'https://a.example'\ntimeout = -1").unwrap_err();
    assert_eq!(error.span(), None);
    // As a part of something larger it is about the whole part, whose keys it knows.
    let text =
        "[first]\nurl = 'https://a.example'\n\n[second]\nurl = 'https://a.example'\ntimeout = -1";
    let error = toml::from_str::<File>(text).unwrap_err();
    let begin = error.span().unwrap().start;
    assert!(text[begin..].starts_with("[second]"), "{error}");
    assert!(error.message().starts_with("`timeout`: "), "{error}");
}

#[test]
fn what_makes_no_endpoint_is_named_when_it_is_built() {
    let of = |text: &str| toml(text).builder().build().unwrap_err().to_string();
    let error = of("url = 'http://auth.example.com/token'\nclient_id = 'me'");
    assert!(error.contains("`url` is http://auth.example.com"), "{error}");
    toml("url = 'http://auth.example.com'\nclient_id = 'me'\nallow_plaintext = true")
        .builder()
        .transport(Scripted::new([]))
        .build()
        .unwrap();
    assert!(of("url = 'https://a.example'\nclient_id = ''").contains("`client_id` is empty"));
    let error = of("url = 'https://a.example'\nclient_id = 'me'\nheaders = { host = 'b' }");
    assert!(error.contains("`header` \"host\""), "{error}");
}

// ===== The policy =====

#[test]
fn a_policy_is_what_its_builder_makes() {
    let read: RefreshPolicy = toml::from_str(
        "due_share = 0.5\ndue_jitter = 0\nattempts = 5\nmax_wait = 2.5\nkeep_warm = true\n\
         default_lifetime = 600\nexpiry_margin = 0",
    )
    .unwrap();
    let built = RefreshPolicy::builder()
        .due_share(0.5)
        .due_jitter(0.0)
        .attempts(5)
        .max_wait(Duration::from_millis(2500))
        .keep_warm(true)
        .default_lifetime(Duration::from_secs(600))
        .expiry_margin(Duration::ZERO)
        .build()
        .unwrap();
    assert_eq!(format!("{read:?}"), format!("{built:?}"));

    let nothing: RefreshPolicy = serde_json::from_str("{}").unwrap();
    assert_eq!(format!("{nothing:?}"), format!("{:?}", RefreshPolicy::default()));
}

#[test]
fn a_number_of_a_policy_that_cannot_be_is_named() {
    for (text, expected) in [
        ("attempts = 0", "the refresh policy's `attempts` must be from 1 to 10"),
        ("due_share = 1.5", "the refresh policy's `due_share` must be from 0 to 1"),
        ("cooldown_max = 0", "the refresh policy's `cooldown_max` must not be zero"),
        ("max_wait = 1e9", "the refresh policy's `max_wait` must be ten years at most"),
        (
            "attempt_timeout = 2\nfetch_timeout = 1",
            "the refresh policy's `attempt_timeout` must not be longer than `fetch_timeout`",
        ),
        ("max_wait = -1", "`max_wait`: must be a number of seconds that is not negative"),
        ("attempts = 2.5", "`attempts`: invalid type: floating point, expected u32"),
        ("keep_warm = 1", "`keep_warm`: invalid type: integer, expected a boolean"),
    ] {
        assert_eq!(refused::<RefreshPolicy>(text), expected);
    }
    let error = refused::<RefreshPolicy>("due_shares = 0.5");
    assert!(
        error.starts_with("unknown field `due_shares`, expected one of `due_share`"),
        "{error}"
    );
}
