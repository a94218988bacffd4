//! What makes two keys differ, what makes a key unusable, and what a request's subject is.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

use super::*;
use crate::token::AccessToken;

const NOW: SystemTime = UNIX_EPOCH;

fn subject(secret: &str) -> Subject {
    Subject::new(AccessToken::new(secret).unwrap())
}

/// Keys by the field that they vary. Every field of each struct is listed here: a new one does not
/// compile until it is.
macro_rules! varied {
    ($($of:ident { $($field:ident: [$($key:expr),+ $(,)?],)+ })+) => {{
        $(let _ = |all: $of| { let $of { $($field: _),+ } = all; };)+
        vec![$($($((stringify!($field), $key),)+)+)+]
    }};
}

#[test]
fn keys_that_differ_in_any_field_are_different_keys() {
    let new = TokenKey::new;
    let keys = varied! {
        Inner {
            purpose: [new()],
            subject: [new().on_behalf_of(subject("a")), new().on_behalf_of(subject("b"))],
            invalid: [new().scope("")],
        }
        Purpose {
            scope: [new().scope("a"), new().scope("b")],
            audience: [new().audience("a"), new().audience("b")],
            resources: [
                new().resource("urn:a"),
                new().resource("urn:b"),
                new().resource("urn:a").resource("urn:b"),
            ],
            params: [
                new().param("a", "a"),
                new().param("b", "a"),
                new().param("a", "b"),
                new().param("a", "a").param("b", "a"),
            ],
        }
    };
    for (at, (field, key)) in keys.iter().enumerate() {
        for (other_at, (other_field, other)) in keys.iter().enumerate() {
            let is_same = at == other_at;
            assert_eq!(key == other, is_same, "{field}, {other_field}");
            // An unusable key never gets into a map.
            if key.usable(NOW).is_ok() && other.usable(NOW).is_ok() {
                assert_eq!(key.id() == other.id(), is_same, "{field}, {other_field}");
                assert_eq!(key.look_up().is(&other.id()), is_same, "{field}, {other_field}");
            }
        }
        assert_eq!(key, &key.clone(), "{field}");
    }
}

#[test]
fn the_order_of_parameters_makes_no_difference_and_the_last_of_a_name_counts() {
    let key = TokenKey::new().param("b", "2").param("a", "1");
    assert_eq!(key, TokenKey::new().param("a", "0").param("a", "1").param("b", "2"));
    assert_eq!(key.params().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
}

#[test]
fn a_key_is_found_by_the_hash_of_what_a_map_keeps_of_it() {
    let hasher = RandomState::new();
    let key = TokenKey::new().scope("a").param("b", "c").on_behalf_of(subject("d"));
    for key in [key, TokenKey::new()] {
        assert_eq!(hasher.hash_one(key.look_up()), hasher.hash_one(key.id()));
    }
}

#[test]
fn what_no_token_request_may_have_makes_a_key_unusable() {
    let fault = |key: TokenKey| key.check().unwrap_err();
    for scope in ["", "a\nb", "a\"b", "a\\b", "é"] {
        assert_eq!(fault(TokenKey::new().scope(scope)), InvalidTokenKey::Scope, "{scope:?}");
    }
    for audience in ["", "a\nb"] {
        assert_eq!(fault(TokenKey::new().audience(audience)), InvalidTokenKey::Audience);
    }
    for resource in ["", "/v1", "api.example.com", "https://a.example/#x", ":x", "https:", "é:x"] {
        let key = TokenKey::new().resource(resource);
        assert_eq!(fault(key), InvalidTokenKey::Resource, "{resource:?}");
    }
    for resource in ["https://a.example/v1?x", "urn:example:a", "api://5b0-1"] {
        TokenKey::new().resource(resource).check().unwrap();
    }
    for name in RESERVED.into_iter().chain(["", "a\0"]) {
        let error = fault(TokenKey::new().param(name, "x"));
        assert!(matches!(error, InvalidTokenKey::Param(_)), "{name}: {error}");
    }
}

#[test]
fn a_key_beyond_the_bounds_is_unusable_and_keeps_nothing_of_what_it_was_given() {
    let many_params = (0..10_000).fold(TokenKey::new(), |key, nth| key.param(nth.to_string(), "x"));
    let many_resources =
        (0..33).fold(TokenKey::new(), |key, nth| key.resource(format!("urn:{nth}")));
    let long_scope = TokenKey::new().scope("s".repeat(1024 * 1024));
    let long_in_all = TokenKey::new().scope("s".repeat(4096)).param("p", "x".repeat(4096));
    for key in [many_params, many_resources, long_scope, long_in_all] {
        assert_eq!(key.inner.purpose, Purpose::default());
        assert_eq!(key.check(), Err(InvalidTokenKey::TooLarge));
    }
    let all = (0..32).fold(TokenKey::new(), |key, nth| key.param(nth.to_string(), "x"));
    all.scope("s".repeat(8000)).check().unwrap();
}

#[test]
fn the_first_fault_of_a_key_is_the_one_that_is_reported() {
    let key = TokenKey::new().scope("").resource("x").scope("good");
    assert_eq!(key.check(), Err(InvalidTokenKey::Scope));
}

// ===== Subjects =====

fn headers(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(AUTHORIZATION, HeaderValue::from_bytes(line.as_bytes()).unwrap());
    }
    headers
}

#[test]
fn the_subject_of_a_request_is_its_one_bearer_token() {
    for line in ["Bearer abc", "bearer abc", "BEARER   abc  "] {
        let subject = Subject::from_headers(&headers(&[line])).unwrap();
        assert_eq!(subject.token().secret(), "abc", "{line}");
    }
}

#[test]
fn what_is_no_single_bearer_token_is_no_subject() {
    let long = format!("Bearer {}", "x".repeat(subject::MAX_LEN + 1));
    for (lines, expected) in [
        (&[][..], NoSubject::Missing),
        (&["Bearer a", "Bearer a"], NoSubject::Several),
        (&["Basic hush"], NoSubject::NotBearer),
        (&["Bearerhush"], NoSubject::NotBearer),
        (&["Bearer\thush"], NoSubject::NotBearer),
        (&["hush"], NoSubject::NotBearer),
        (&[""], NoSubject::NotBearer),
        (&["Bearer"], NoSubject::Empty),
        (&["Bearer   "], NoSubject::Empty),
        (&[&long], NoSubject::TooLong),
    ] {
        assert_eq!(Subject::from_headers(&headers(lines)), Err(expected), "{lines:?}");
    }
    for line in ["Bearer hush hush", "Bearer hu\tsh", "Bearer Bearer hush", "Bearer hushé"] {
        let error = Subject::from_headers(&headers(&[line])).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
    }
}

#[test]
fn subjects_with_one_token_are_one_subject_and_what_they_show_tells_nothing() {
    assert_eq!(subject("hush"), subject("hush"));
    assert_ne!(subject("hush"), subject("husH"));
    let key = TokenKey::new().on_behalf_of(subject("hush"));
    let shown = format!("{key:?} {:?}", key.subject());
    assert_eq!(
        shown,
        format!("{:?} {:?}", TokenKey::new().on_behalf_of(subject("x")), Some(subject("x")))
    );
    assert!(!shown.contains("hush"), "{shown}");
}

#[test]
fn a_subject_expires_when_its_token_does() {
    let end = UNIX_EPOCH + Duration::from_secs(1000);
    let token = AccessToken::new("a").unwrap().with_expiry(end);
    let subject = Subject::new(token);
    assert_eq!(subject.expiry(), Some(end));
    assert!(!subject.is_expired(end - Duration::from_millis(1)));
    assert!(subject.is_expired(end));

    // {"alg":"none"}.{"exp":1000}
    let jwt = AccessToken::new("eyJhbGciOiJub25lIn0.eyJleHAiOjEwMDB9.").unwrap();
    assert_eq!(Subject::new(jwt).expiry(), Some(end));
    assert_eq!(super::Subject::new(AccessToken::new("opaque").unwrap()).expiry(), None);
}

#[test]
fn a_subject_with_a_lifetime_expires_that_much_later() {
    let token = AccessToken::new("a").unwrap().with_lifetime(Duration::from_secs(60));
    let before = SystemTime::now();
    let expiry = Subject::new(token.with_expiry(UNIX_EPOCH)).expiry().unwrap();
    let after = SystemTime::now();
    assert!((before..=after).contains(&(expiry - Duration::from_secs(60))));
    let endless = AccessToken::new("a").unwrap().with_lifetime(Duration::MAX);
    assert_eq!(Subject::new(endless).expiry(), None);
}
