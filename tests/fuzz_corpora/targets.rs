//! What is fuzzed, as plain functions: `fuzz/fuzz_targets` feeds them what libFuzzer thinks of,
//! the tests of this folder what it has found so far.

use std::{
    convert::Infallible,
    future::ready,
    str,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, Uri,
    header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use tower_bearer::{
    AccessToken, Challenge, Origin, Reason, RefreshPolicy, Subject, TokenError, TokenRequest,
    oauth2::{Config, EndpointError, TokenEndpoint},
};

const SECRET: &str = "hush-hush-hush";
const DAY: Duration = Duration::from_secs(24 * 3600);

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

/// What is shown is printable, and no secret.
fn check_shown(error: &TokenError) {
    let shown = format!("{error} {error:?}");
    assert!(shown.chars().all(|c| (' '..='~').contains(&c)), "{shown:?}");
    assert!(!shown.contains(SECRET), "{shown}");
}

/// One header for each line that can be one.
fn headers(data: &[u8], name: &http::HeaderName) -> HeaderMap {
    let lines =
        data.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(name, line);
    }
    headers
}

/// `WWW-Authenticate`: whatever an API sends, it is read, within bounds.
pub fn challenge(data: &[u8]) {
    let challenges = Challenge::from_headers(&headers(data, &WWW_AUTHENTICATE));
    assert!(challenges.len() <= 32);
    for challenge in &challenges {
        assert!(!challenge.scheme().is_empty());
        assert!(challenge.params().count() <= 32);
        for (name, value) in challenge.params() {
            assert_eq!(challenge.param(name), Some(value), "of a name that comes twice, the first");
        }
    }
}

/// A token, which may look like a JWT: made as it is or refused, and its expiry read.
pub fn token(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let is_bare = !text.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("bearer "));
    let is_good = !text.is_empty() && is_bare && text.bytes().all(|byte| byte.is_ascii_graphic());
    match AccessToken::new(text) {
        Ok(token) => {
            assert!(is_good);
            assert_eq!(token.secret(), text);
            assert_eq!(token.header_value(), &format!("Bearer {text}"));
            assert!(token.header_value().is_sensitive());
            let _ = token.expiry();
        }
        Err(error) => assert!(!is_good, "{error}"),
    }
}

/// An origin is one and the same however it is written, and what a URI names is one.
pub fn origin(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let written = text.parse::<Origin>().ok();
    let named = text.parse::<Uri>().ok().and_then(|uri| Origin::of(&uri));
    // A URI may have these, but nobody can name them.
    let named = named.filter(|origin| origin.port() != 0 && !origin.host().contains('*'));
    for origin in written.iter().chain(&named) {
        let shown = origin.to_string();
        assert_eq!(shown.parse::<Origin>().as_ref(), Ok(origin), "{text}");
        let uri: Uri = format!("{shown}/path").parse().expect("a URI");
        assert_eq!(Origin::of(&uri).as_ref(), Some(origin), "{text}");
        assert_eq!(shown, shown.to_lowercase());
        assert_eq!(origin.is_https(), shown.starts_with("https://"));
        assert!(!shown.contains('@') && !origin.host().is_empty(), "{shown}");
    }
    if let (Some(written), Some(named)) = (&written, &named) {
        assert_eq!(written, named, "{text}");
    }
}

/// The answer of a token endpoint: a token, or an error that shows nothing of it. The first two
/// bytes make the status.
pub fn answer(data: &[u8]) {
    let Some((status, body)) = data.split_at_checked(2) else { return };
    let status = 200 + u16::from_le_bytes([status[0], status[1]]) % 400;
    let body = Bytes::copy_from_slice(body);
    let _ = fetched(move |_| Response::builder().status(status).body(Full::new(body.clone())));
}

/// `Retry-After`: a number of seconds, a date, or nothing; a day at most.
pub fn retry_after(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let sent = value.clone();
    let error = fetched(move |_| {
        let answer = Response::builder().status(503).header(RETRY_AFTER, sent.clone());
        answer.body(Full::default())
    });
    let error = error.expect_err("a refusal");
    let said = EndpointError::find_in(&error).expect("an endpoint's").retry_after();
    assert!(said.is_none_or(|said| said <= DAY));
    let digits = value.to_str().unwrap_or_default().trim();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = digits.parse().map_or(DAY, Duration::from_secs);
        assert_eq!(said, Some(seconds.min(DAY)), "{digits}");
    }
}

type Answer = http::Result<Response<Full<Bytes>>>;

fn fetched(
    answer: impl Fn(Request<Full<Bytes>>) -> Answer + Clone + Send + Sync + 'static,
) -> Result<AccessToken, TokenError> {
    let transport = tower::service_fn(move |request| {
        ready(Ok::<_, Infallible>(answer(request).expect("valid")))
    });
    let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
        .client_id("id")
        .client_secret(SECRET)
        .transport(transport)
        .build()
        .expect("an endpoint");
    let fetched = block_on(endpoint.fetch(TokenRequest::new(Reason::First)));
    fetched.inspect_err(check_shown)
}

/// Metadata: a secret goes only where they say, over TLS, and only if they are the issuer's.
pub fn metadata(data: &[u8]) {
    const ISSUER: &str = "https://auth.example.com";
    let body = Bytes::copy_from_slice(data);
    let sent = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&sent);
    let transport = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let answer = if request.method() == Method::GET {
            assert_eq!(Origin::of(request.uri()), ISSUER.parse().ok(), "nothing else is fetched");
            body.clone()
        } else {
            *seen.lock().expect("no panic") = Some(request.uri().clone());
            Bytes::from_static(br#"{"access_token":"at"}"#)
        };
        ready(Ok::<_, Infallible>(Response::new(Full::new(answer))))
    });
    let endpoint = TokenEndpoint::discover(ISSUER).client_id("id").client_secret(SECRET);
    let endpoint = endpoint.transport(transport).build().expect("an endpoint");
    let fetched = block_on(endpoint.fetch(TokenRequest::new(Reason::First)));
    let sent = sent.lock().expect("no panic").take();
    assert_eq!(fetched.is_ok(), sent.is_some());
    if let Some(uri) = sent {
        // Values that nobody looks at may be what serde_json would not take.
        let body = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
        if let Ok(said) = serde_json::from_slice::<serde_json::Value>(body) {
            assert_eq!(said["issuer"], ISSUER);
        }
        assert!(Origin::of(&uri).expect("an origin").is_https(), "{uri}");
    }
    if let Err(error) = fetched {
        check_shown(&error);
    }
}

/// A configuration as JSON: read or refused, with no text in the error that may be a secret.
pub fn config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let policy = serde_json::from_str::<RefreshPolicy>(text).map(drop);
    let config = serde_json::from_str::<Config>(text);
    for error in [policy.err(), config.as_ref().err().map(serde::de::Error::custom)] {
        let shown = error.map(|error: serde_json::Error| error.to_string()).unwrap_or_default();
        assert!(!shown.contains(SECRET), "{shown}");
    }
    if let Ok(config) = config {
        assert!(!format!("{config:?}").contains(SECRET));
        if let Err(error) = config.builder().build() {
            assert!(!error.to_string().is_empty());
        }
    }
}

/// The `Authorization` of incoming requests: one token of one user, or nobody.
pub fn subject(data: &[u8]) {
    let headers = headers(data, &AUTHORIZATION);
    let values: Vec<_> = headers.get_all(AUTHORIZATION).iter().collect();
    match Subject::from_headers(&headers) {
        Ok(subject) => {
            assert_eq!(values.len(), 1, "whose token is it?");
            let secret = subject.token().secret();
            let written = values[0].to_str().expect("ASCII");
            let (scheme, rest) = written.trim().split_once(' ').expect("a scheme");
            assert!(scheme.eq_ignore_ascii_case("bearer"));
            assert_eq!(rest.trim(), secret);
            assert!(secret.len() < 12 || !format!("{subject:?}").contains(secret));
        }
        Err(error) => {
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(SECRET), "{shown}");
        }
    }
}
