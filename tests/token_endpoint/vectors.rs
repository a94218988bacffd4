//! Real cases, collected from the test suites of other clients.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};
use serde_json::Value;
use tower_bearer::{
    AccessToken, Challenge, TokenError,
    oauth2::{ClientAuth, EndpointErrorKind as Kind, Field, TokenEndpoint},
};

use super::support::{URL, answer_with, cause, client, fetch_with, kind, sent, shown};

fn entries(json: &str) -> Vec<Value> {
    serde_json::from_str(json).unwrap()
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value[name].as_str()
}

/// Which outcome was chosen where an entry has two. `None`: the one of the entry.
///
/// - `dup_keys` is refused: whichever token were taken, a proxy or a scanner on the way could
///   have taken the other one, and RFC 6749 §5.1 forbids it.
/// - `expires_beyond_u64` and `expires_huge` are clamped to a hundred years: "unknown" would
///   throw away that the service meant "for ever".
/// - `xo_expires_int32_overflow` is kept as it is: a hundred years are more.
/// - `xo_expires_object` and `xo_expires_zzz` are errors, as with their source: a life that
///   was guessed too long ends in rejections that nobody could explain.
/// - `ol_*` (`token_type: example`), `ianum_baerer`, `token_type_empty` are bearer tokens: only
///   the types that are known to need a proof are refused.
/// - `ha_html_form` is taken: it holds an access token, which no login page does.
fn chosen(name: &str) -> Option<Result<u64, Kind>> {
    const HUNDRED_YEARS: u64 = 100 * 365 * 24 * 3600;
    match name {
        "dup_keys" => Some(Err(Kind::Unreadable("the same member twice"))),
        "expires_beyond_u64" | "expires_huge" => Some(Ok(HUNDRED_YEARS)),
        _ => None,
    }
}

fn expected_kind(name: &str) -> Option<fn(&Kind) -> bool> {
    Some(match name {
        "missing_access_token" => |kind| *kind == Kind::MissingToken,
        "http_status" => |kind| matches!(kind, Kind::Refused | Kind::Unavailable),
        "empty_body" => |kind| *kind == Kind::Unreadable("nothing"),
        "not_a_bearer_token" => |kind| *kind == Kind::NotBearer,
        "unparsable" => |kind| matches!(kind, Kind::Unreadable(_)),
        "invalid_token_chars" => |kind| matches!(kind, Kind::InvalidToken(_)),
        _ => return None,
    })
}

async fn fetch_entry(entry: &Value, camel_case: bool) -> Result<AccessToken, TokenError> {
    // The refresh grant, since the others drop the refresh token that some entries expect.
    let mut builder = client().refresh_token("rt-0");
    if camel_case {
        let map = &entry["expect"]["with_field_map"];
        builder = builder
            .field(Field::AccessToken, text(map, "access_token").unwrap())
            .field(Field::ExpiresIn, text(map, "expires_in").unwrap());
    }
    let status = entry["status"].as_u64().unwrap().try_into().unwrap();
    let body = text(entry, "body").unwrap().to_owned();
    // An exchange of a refresh token that brought no answer is repeated: twice the same.
    let step = || {
        answer_with(status, &[("content-type", text(entry, "content_type").unwrap())], body.clone())
    };
    let service = super::support::Scripted::new([step(), step()]);
    super::support::fetch(&builder.transport(service).build().unwrap()).await
}

fn check_token(token: &AccessToken, entry: &Value) {
    let name = text(entry, "name").unwrap();
    let expect = &entry["expect"];
    assert_eq!(Some(token.secret()), text(expect, "access_token"), "{name}");
    assert_eq!(token.header_value(), &format!("Bearer {}", token.secret()), "{name}");
    assert_eq!(token.scope(), text(expect, "scope"), "{name}");
    let lifetime = match chosen(name) {
        Some(lifetime) => Some(lifetime.unwrap()),
        None => expect["expires_in_s"].as_u64(),
    };
    assert_eq!(token.lifetime().map(|lifetime| lifetime.as_secs()), lifetime, "{name}");
    // RFC 6749 §6: the old one is kept if none came.
    let refresh_token = text(expect, "refresh_token").unwrap_or("rt-0");
    assert_eq!(token.refresh_token(), Some(refresh_token), "{name}");
}

/// Whether it may pass is compared by a client that does not repeat anything itself.
async fn check_error(entry: &Value) {
    let (name, expect) = (text(entry, "name").unwrap(), &entry["expect"]);
    let status = entry["status"].as_u64().unwrap().try_into().unwrap();
    let body = text(entry, "body").unwrap().to_owned();
    let error = fetch_with(client(), answer_with(status, &[], body)).await.unwrap_err();
    assert_eq!(cause(&error).error(), text(expect, "error_code"), "{name}");
    if let Some(description) = text(expect, "error_description") {
        assert_eq!(cause(&error).error_description(), Some(description), "{name}");
    }
    if let Some(retryable) = expect["retryable"].as_bool() {
        assert_eq!(error.is_transient(), retryable, "{name}");
    }
    if let Some(expected) = text(expect, "kind") {
        let is_expected = expected_kind(expected).expect("every kind has its counterpart");
        assert!(is_expected(kind(&error)), "{name}: {error:?}");
    }
    if let Some(Err(expected)) = chosen(name) {
        assert_eq!(*kind(&error), expected, "{name}");
    }
    assert!(!shown(&error).contains("abc") && !shown(&error).contains("töken"), "{name}");
}

#[tokio::test]
async fn every_token_response_of_the_collection_comes_out_as_expected() {
    let entries = entries(include_str!("../vectors/token_responses.json"));
    assert_eq!(entries.len(), 60);
    for entry in entries {
        let is_ok = entry["expect"]["ok"].as_bool().unwrap();
        let is_ok = chosen(text(&entry, "name").unwrap()).map_or(is_ok, |chosen| chosen.is_ok());
        match fetch_entry(&entry, false).await {
            Ok(token) if is_ok => check_token(&token, &entry),
            Err(_) if !is_ok => check_error(&entry).await,
            other => panic!("{}: {other:?}", entry["name"]),
        }
    }
}

#[tokio::test]
async fn camel_case_answers_are_read_once_their_names_are_configured() {
    let entries = entries(include_str!("../vectors/token_responses.json"));
    let mut mapped = 0;
    for entry in entries.iter().filter(|entry| entry["expect"]["with_field_map"].is_object()) {
        let expect = &entry["expect"]["with_field_map"];
        let token = fetch_entry(entry, true).await.unwrap();
        assert_eq!(Some(token.secret()), text(expect, "token"));
        let lifetime = expect["expires_in_s"].as_u64().map(Duration::from_secs);
        assert_eq!(token.lifetime(), lifetime);
        mapped += 1;
    }
    assert_eq!(mapped, 2);
}

#[tokio::test]
async fn the_absolute_expiry_of_ibm_counts_if_the_lifetime_is_missing() {
    let body = r#"{"access_token":"t","expiration":1524167011}"#;
    let token = fetch_with(client(), answer_with(200, &[], body)).await.unwrap();
    let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_524_167_011);
    assert_eq!((token.lifetime(), token.expiry()), (None, Some(expected)));
}

async fn basic(entry: &Value, client_auth: ClientAuth) -> String {
    let mut builder = TokenEndpoint::builder(URL)
        .client_id(text(entry, "client_id").unwrap())
        .client_auth(client_auth);
    // A `Secret` is never empty: a client without one leaves it out.
    let secret = text(entry, "client_secret").unwrap();
    if !secret.is_empty() {
        builder = builder.client_secret(secret);
    }
    sent(builder).await.header("authorization").to_owned()
}

/// Where an entry has several encoded forms, ours is the one with `%20` for a space, `%7E`
/// for `~` and a bare `*`: the encoding of the URL standard, and a space that every known
/// decoder takes (Authlib's refuses `+`).
#[tokio::test]
async fn every_basic_header_of_the_collection_comes_out_as_expected() {
    let entries = entries(include_str!("../vectors/basic_auth.json"));
    assert_eq!(entries.len(), 13);
    for entry in entries {
        let expected = match text(&entry, "client_id").unwrap() {
            "firstname lastname" => text(&entry, "also_acceptable"),
            _ => text(&entry, "expected_header"),
        };
        assert_eq!(Some(basic(&entry, ClientAuth::Basic).await.as_str()), expected);

        let raw = text(&entry, "raw_header_no_escape");
        if text(&entry, "client_id").unwrap().contains(':') {
            let id = text(&entry, "client_id").unwrap();
            let builder = TokenEndpoint::builder(URL).client_id(id);
            let error = builder.client_auth(ClientAuth::BasicRaw).build().unwrap_err();
            assert!(error.to_string().contains("`client_id` has a `:`"), "{error}");
        } else {
            assert_eq!(Some(basic(&entry, ClientAuth::BasicRaw).await.as_str()), raw);
        }
    }
}

#[test]
fn every_challenge_of_the_collection_comes_out_as_expected() {
    let entries = entries(include_str!("../vectors/www_authenticate.json"));
    assert_eq!(entries.len(), 19);
    for entry in entries {
        let name = text(&entry, "name").unwrap();
        let mut headers = HeaderMap::new();
        for line in entry["headers"].as_array().unwrap() {
            let line = HeaderValue::from_bytes(line.as_str().unwrap().as_bytes()).unwrap();
            headers.append(WWW_AUTHENTICATE, line);
        }
        let mut found = Challenge::from_headers(&headers);
        if name == "az_unparseable_then_bearer" {
            // What is reported for `Foo` is free: it is reported, so that nothing is lost.
            assert!(found.remove(0).is("Foo"));
        }
        let expected = entry["expect"].as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{name}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            check_challenge(found, expected, name);
        }
    }
}

fn check_challenge(found: &Challenge, expected: &Value, name: &str) {
    assert!(found.is(text(expected, "scheme").unwrap()), "{name}: {found:?}");
    assert_eq!(found.token68(), text(expected, "token68"), "{name}");
    let params = expected["params"].as_object().unwrap();
    assert_eq!(found.params().count(), params.len(), "{name}: {found:?}");
    for (param, value) in params {
        assert_eq!(found.param(param), value.as_str(), "{name}: {param}");
    }
}
