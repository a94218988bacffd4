//! Settings that are refused when the endpoint is built, and answers that are none.

use std::time::Duration;

use bytes::Bytes;
use tower_bearer::{
    Secret, TokenCache,
    oauth2::{
        ClientAuth, EndpointErrorKind as Kind, Field, InvalidEndpoint, TokenEndpoint,
        TokenEndpointBuilder, providers,
    },
};

use super::support::{Scripted, URL, answer, client, fetch_with, kind, shown, streamed};

const MIB: usize = 1024 * 1024;

fn refusal(builder: TokenEndpointBuilder) -> String {
    let error = builder.transport(Scripted::default()).build().unwrap_err().to_string();
    assert!(!error.contains("hush"), "{error}");
    error
}

#[test]
fn extra_headers_may_not_speak_for_the_request_itself() {
    for name in [
        "Authorization",
        "HOST",
        "Content-Type",
        "content-length",
        "Content-X",
        "Transfer-Encoding",
    ] {
        let error = refusal(client().header(name, "hush"));
        assert!(error.contains(&format!("`header` {name:?} cannot be set")), "{error}");
    }
    assert!(refusal(client().header("a b", "x")).contains("not a header name"));
    assert!(
        refusal(client().header("x-key", "hush\r\nhost: evil")).contains("\"x-key\" has a value")
    );
    assert!(refusal(client().user_agent("a\nb")).contains("`user_agent`"));
    assert!(refusal(client().header("User-Agent", "b")).contains(".user_agent"));
}

#[test]
fn extra_parameters_may_not_repeat_what_is_sent_already() {
    for name in [
        "grant_type",
        "client_id",
        "client_secret",
        "scope",
        "audience",
        "resource",
        "refresh_token",
    ] {
        let error = refusal(client().param(name, "hush"));
        assert!(error.contains(&format!("`param` {name:?} has its own method")), "{error}");
    }
    assert!(refusal(client().param("a", "hush").param("a", "hush")).contains("only once"));
    assert!(refusal(client().param("", "hush")).contains("no name"));
}

#[test]
fn a_client_that_cannot_say_who_it_is_is_refused() {
    let nobody = || TokenEndpoint::builder(URL);
    assert!(refusal(nobody()).contains("`client_id` is missing"));
    assert!(refusal(nobody().client_secret("hush")).contains("`client_id` is missing"));
    assert!(refusal(client().client_id("")).contains("`client_id` is empty"));
    assert!(refusal(client().name("")).contains("`name` is empty"));
    let raw = client().client_auth(ClientAuth::BasicRaw).client_id("a:b");
    assert!(refusal(raw).contains("`client_id` has a `:`"));
    assert!(refusal(client().client_auth(ClientAuth::None)).contains("`client_secret`"));
    let body = nobody().grant_type("urn:x").client_auth(ClientAuth::Body);
    assert!(refusal(body).contains("`client_id` is missing"));
}

#[test]
fn settings_that_mean_nothing_are_refused_by_name() {
    for (builder, name) in [
        (client().scope(""), "`scope`"),
        (client().audience(""), "`audience`"),
        (client().resource("/relative"), "`resource`"),
        (client().resource("https://api.example.com/#f"), "`resource`"),
        (client().grant_type(""), "`grant_type`"),
        (client().grant_type("refresh_token"), "`.refresh_token(..)`"),
        (client().on_new_refresh_token(async |_| ()), "`on_new_refresh_token`"),
        (client().timeout(Duration::ZERO), "`timeout`"),
        (client().connect_timeout(Duration::ZERO), "`connect_timeout`"),
        (client().field(Field::AccessToken, ""), "`field`"),
        (client().url("https://u:hush@auth.example.com/"), "`url`"),
        (client().url("http://auth.example.com/"), "`.allow_plaintext()`"),
    ] {
        let error = refusal(builder);
        assert!(error.contains(name), "{name}: {error}");
    }
}

#[test]
fn a_placeholder_that_was_never_filled_in_is_refused_and_a_secret_may_look_like_one() {
    let verify = |tenant: &str| providers::ibm_verify(tenant, "me", "hush");
    for (builder, name) in [
        (client().url("https://login.example.com/{tenant}/token"), "`url`"),
        (client().url("https://<your tenant>/token?key=hush"), "`url`"),
        (verify("{tenant host}"), "`url`"),
        (client().client_id("<your-id>"), "`client_id`"),
        (client().client_id("{client_id}"), "`client_id`"),
        (providers::ibm_cloud("{hush-apikey}"), "`param` \"apikey\""),
        (client().param("api_key", "<hush>"), "`param` \"api_key\""),
        (client().header("X-Api-Key", "{hush}"), "`header` \"X-Api-Key\""),
        (client().header("X-Api-Key", Secret::new("{hush}")), "`header` \"X-Api-Key\""),
    ] {
        let error = refusal(builder);
        assert!(error.contains(name) && error.contains("placeholder"), "{name}: {error}");
    }
    for builder in [
        client().client_secret("{client_secret}"),
        client().client_secret("<hush>"),
        client().client_id("{3F2504E0-4F89-11D3-9A0C-0305E82C3301}"),
        client().param("claims", "{id}").secret_param("password", "<hush>"),
        client().secret_param("apikey", Secret::env("{apikey}")),
        providers::ibm_cloud("a{b}c"),
        client().refresh_token("{rt}"),
    ] {
        builder.transport(Scripted::default()).build().unwrap();
    }
}

#[cfg(not(feature = "reqwest"))]
#[test]
fn without_a_transport_the_error_names_the_method() {
    let error = client().build().unwrap_err();
    assert!(matches!(error, InvalidEndpoint::Setting { name: "transport", .. }));
}

#[test]
fn the_error_has_the_name_of_the_header() {
    let error = client().header("Host", "x").transport(Scripted::default()).build().unwrap_err();
    assert!(matches!(error, InvalidEndpoint::Header { name, .. } if name == "Host"));
}

#[test]
fn debug_shows_no_secret() {
    let builder = || {
        client()
            .url("https://auth.example.com/token?key=hush")
            .param("p", "hush")
            .header("x-key", "hush")
            .transport(Scripted::default())
    };
    let shown = format!("{:?} {:#?}", builder(), builder().build().unwrap());
    assert!(!shown.contains("hush"), "{shown}");
    assert!(shown.contains("my-app") && shown.contains("https://auth.example.com"), "{shown}");
}

#[tokio::test]
async fn a_login_page_with_status_200_is_an_error() {
    let page = "<!DOCTYPE html><title>Sign in</title><input name=access_token value=hush>";
    let error = fetch_with(client(), answer(200, page)).await.unwrap_err();
    assert!(matches!(kind(&error), Kind::Unreadable(_)), "{error}");
    assert!(error.to_string().contains("login page") && error.is_transient());
    assert!(!shown(&error).contains("Sign in"));
}

#[tokio::test]
async fn a_redirect_is_refused_because_it_would_replay_the_secret() {
    for status in [301, 302, 303, 307, 308] {
        let body = r#"{"access_token":"t"}"#;
        let error = fetch_with(client(), answer(status, body)).await.unwrap_err();
        assert_eq!(*kind(&error), Kind::Redirected);
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn a_body_is_read_to_one_mebibyte_and_no_further() {
    let json = |length: usize| {
        let frame = r#"{"access_token":"t","pad":""}"#.len();
        format!(r#"{{"access_token":"t","pad":"{}"}}"#, "x".repeat(length - frame))
    };
    fetch_with(client(), answer(200, json(MIB))).await.unwrap();
    let error = fetch_with(client(), answer(200, json(MIB + 1))).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::TooLarge);

    // Without a length, in pieces, and the reader stops before the end that never comes.
    let pieces = vec![Some(Bytes::from(vec![b' '; MIB / 4])); 5];
    let error = fetch_with(client(), streamed(200, pieces)).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::TooLarge);
}

#[tokio::test]
async fn an_answer_in_many_pieces_is_put_together() {
    let body = format!(r#"{{"pad":"{}","access_token":"t"}}"#, "x".repeat(100_000));
    let pieces = body.as_bytes().chunks(777).map(|piece| Some(Bytes::copy_from_slice(piece)));
    let token = fetch_with(client(), streamed(200, pieces.collect())).await.unwrap();
    assert_eq!(token.secret(), "t");
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_is_no_answer() {
    let pieces = || vec![Some(Bytes::from_static(br#"{"access_token":"hush""#)), None];
    let error = fetch_with(client(), streamed(200, pieces())).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::Interrupted);
    assert!(error.is_transient() && !shown(&error).contains("hush"));
    // Of a refusal the status is known all the same.
    let error = fetch_with(client(), streamed(403, pieces())).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::Refused);
}

#[tokio::test]
async fn a_token_that_no_header_may_carry_is_refused_unseen() {
    for token in ["hush\\r\\nx: y", "hush hush", "hush\\u0000", "hush\u{e9}", "Bearer hush"] {
        let body = format!(r#"{{"access_token":"{token}"}}"#);
        let error = fetch_with(client(), answer(200, body)).await.unwrap_err();
        assert!(matches!(kind(&error), Kind::InvalidToken(_)), "{error}");
        assert!(!shown(&error).contains("hush"), "{error}");
    }
    for missing in ["null", "\"\"", "7", "{}"] {
        let body = format!(r#"{{"access_token":{missing}}}"#);
        let error = fetch_with(client(), answer(200, body)).await.unwrap_err();
        assert_eq!(*kind(&error), Kind::MissingToken, "{missing}");
    }
}

#[tokio::test]
async fn an_expiry_that_was_not_set_costs_one_fetch_however_many_ask() {
    for body in [
        r#"{"access_token":"t","expires_at":0}"#,
        r#"{"access_token":"t","expires_on":"-62135596800"}"#,
    ] {
        let service = Scripted::new([answer(200, body)]);
        let endpoint = client().transport(service.clone()).build().unwrap();
        let cache = TokenCache::new(endpoint);
        for _ in 0..20 {
            cache.get().await.unwrap();
        }
        assert_eq!(service.seen().len(), 1, "{body}");
    }
}

#[tokio::test]
async fn a_member_that_comes_twice_is_refused() {
    for body in [
        r#"{"access_token":"a","access_token":"b"}"#,
        "access_token=a&access_token=b",
        r#"{"access_token":"a","expires_in":1,"expires_in":2}"#,
    ] {
        let error = fetch_with(client(), answer(200, body)).await.unwrap_err();
        assert_eq!(*kind(&error), Kind::Unreadable("the same member twice"), "{body}");
    }
    let harmless = r#"{"access_token":"a","x":1,"x":2}"#;
    fetch_with(client(), answer(200, harmless)).await.unwrap();
}

#[test]
fn without_a_runtime_the_error_says_so() {
    let endpoint = client().transport(Scripted::default()).build().unwrap();
    let fetch = super::support::fetch(&endpoint);
    let error = futures_util::FutureExt::now_or_never(fetch).unwrap().unwrap_err();
    assert!(error.to_string().contains("no tokio runtime"), "{error}");
}
