//! Where an endpoint is, as its issuer's metadata say.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use tower_bearer::{
    TokenError, TokenSource,
    oauth2::{ClientAuth, EndpointErrorKind as Kind, TokenEndpoint, TokenEndpointBuilder},
};

use super::support::{
    OK, Scripted, Seen, Step, answer, answer_with, cause, cut, fetch, kind, refused, shown, slow,
    streamed,
};

const ISSUER: &str = "https://issuer.example";
const TOKEN_URL: &str = "https://token.example/v2/token";
const OAUTH: &str = "https://issuer.example/.well-known/oauth-authorization-server";
const OPENID: &str = "https://issuer.example/.well-known/openid-configuration";

const MINUTE: Duration = Duration::from_secs(60);

fn issuer(issuer: &str) -> TokenEndpointBuilder {
    TokenEndpoint::discover(issuer).client_id("my-app").client_secret("hush-hush")
}

/// Metadata with members beside those that every service has.
fn metadata(more: &str) -> String {
    format!(r#"{{"issuer":"{ISSUER}","token_endpoint":"{TOKEN_URL}"{more}}}"#)
}

fn found() -> Step {
    answer(200, metadata(""))
}

fn kept_for(cache_control: &str) -> Step {
    answer_with(200, &[("cache-control", cache_control)], metadata(""))
}

fn moved_to(url: &str) -> Step {
    answer(200, format!(r#"{{"issuer":"{ISSUER}","token_endpoint":"{url}"}}"#))
}

fn token() -> Step {
    answer(200, OK)
}

fn discovered(steps: impl IntoIterator<Item = Step>) -> (TokenEndpoint, Scripted) {
    let service = Scripted::new(steps);
    (issuer(ISSUER).transport(service.clone()).build().unwrap(), service)
}

/// Method and URL of each request.
fn asked(service: &Scripted) -> Vec<String> {
    let seen = service.seen();
    seen.iter().map(|Seen { method, uri, .. }| format!("{method} {uri}")).collect()
}

fn get(url: &str) -> String {
    format!("GET {url}")
}

fn post(url: &str) -> String {
    format!("POST {url}")
}

/// Fails to fetch with these metadata, and sends no more than the requests for them.
async fn failure(steps: Vec<Step>) -> TokenError {
    let gets = steps.len();
    let (endpoint, service) = discovered(steps);
    let error = fetch(&endpoint).await.unwrap_err();
    let seen = service.seen();
    assert!(seen.len() == gets && seen.iter().all(|seen| seen.method == Method::GET), "{seen:?}");
    assert!(cause(&error).is_about_metadata(), "{error:?}");
    assert!(error.to_string().contains("(`discover`)"), "{error}");
    assert!(!shown(&error).contains("hush"), "{error:?}");
    error
}

// ===== What is read =====

#[tokio::test]
async fn the_first_fetch_reads_the_metadata_and_sends_no_credentials_there() {
    let (endpoint, service) = discovered([found(), token(), token()]);
    assert!(service.seen().is_empty(), "building sends nothing");
    assert_eq!(fetch(&endpoint).await.unwrap().secret(), "at-1");
    fetch(&endpoint).await.unwrap();
    assert_eq!(asked(&service), [get(OAUTH), post(TOKEN_URL), post(TOKEN_URL)]);

    let seen = service.seen();
    assert_eq!(seen[0].header_names(), ["accept", "user-agent"]);
    assert_eq!((seen[0].header("accept"), seen[0].body.as_str()), ("application/json", ""));
    assert_eq!(seen[1].header("authorization"), "Basic bXktYXBwOmh1c2gtaHVzaA==");
    assert_eq!(seen[1].body, "grant_type=client_credentials");
}

#[tokio::test(start_paused = true)]
async fn where_one_well_known_has_nothing_the_other_is_asked_and_is_first_from_then_on() {
    let nothing = || {
        [
            answer(404, ""),
            answer(403, "no"),
            answer(500, ""),
            answer(200, "<html>a page for people</html>"),
            answer_with(302, &[("location", "https://evil.example/")], ""),
        ]
    };
    for nothing in nothing() {
        let (endpoint, service) = discovered([nothing, found(), token(), found(), token()]);
        fetch(&endpoint).await.unwrap();
        tokio::time::advance(61 * MINUTE).await;
        fetch(&endpoint).await.unwrap();
        let expected = [get(OAUTH), get(OPENID), post(TOKEN_URL), get(OPENID), post(TOKEN_URL)];
        assert_eq!(asked(&service), expected);
    }
}

#[tokio::test]
async fn the_path_of_an_issuer_stands_behind_one_segment_and_before_the_other() {
    for name in ["https://a.example:8443/t%20/x", "https://a.example:8443/t%20/x/"] {
        let body = format!(r#"{{"issuer":"{name}","token_endpoint":"{TOKEN_URL}"}}"#);
        let service = Scripted::new([answer(404, ""), answer(200, body), token()]);
        let endpoint = issuer(name).transport(service.clone()).build().unwrap();
        fetch(&endpoint).await.unwrap();
        let expected = [
            "GET https://a.example:8443/.well-known/oauth-authorization-server/t%20/x",
            "GET https://a.example:8443/t%20/x/.well-known/openid-configuration",
        ];
        assert_eq!(asked(&service)[..2], expected);
    }
}

#[tokio::test]
async fn the_issuer_is_compared_byte_for_byte() {
    for (wanted, named) in [
        ("https://issuer.example", "https://issuer.example/"),
        ("https://issuer.example/", "https://issuer.example"),
        ("https://issuer.example", "https://Issuer.example"),
        ("https://issuer.example", "https://issuer.example:443"),
        ("https://issuer.example/t", "https://issuer.example/T"),
        ("https://issuer.example/t", "https://issuer.example/{tenantid}"),
        ("https://issuer.example", "https://evil.example"),
        ("https://issuer.example", ""),
    ] {
        let body = format!(r#"{{"issuer":"{named}","token_endpoint":"{TOKEN_URL}"}}"#);
        let service = Scripted::new([answer(200, body)]);
        let endpoint = issuer(wanted).transport(service.clone()).build().unwrap();
        let error = fetch(&endpoint).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(kind(&error), Kind::Metadata(_)) && !error.is_transient(), "{text}");
        assert!(text.contains("another issuer's") && text.contains(named), "{text}");
    }
}

#[tokio::test]
async fn metadata_that_lack_or_hold_what_they_must_not_are_a_permanent_error() {
    let with = |url: &str| format!(r#"{{"issuer":"{ISSUER}","token_endpoint":"{url}"}}"#);
    let long = format!("https://token.example/{}", "x".repeat(2048));
    for (body, expected) in [
        (format!(r#"{{"token_endpoint":"{TOKEN_URL}"}}"#), "no `issuer`"),
        (format!(r#"{{"issuer":null,"token_endpoint":"{TOKEN_URL}"}}"#), "no `issuer`"),
        (format!(r#"{{"issuer":"{ISSUER}"}}"#), "no `token_endpoint`"),
        (format!(r#"{{"issuer":"{ISSUER}","token_endpoint":null}}"#), "no `token_endpoint`"),
        (with("http://token.example/"), "plain http"),
        // Another machine's issuer does not know what this one serves.
        (with("http://127.0.0.1/token"), "plain http"),
        (with("https://me:hush@token.example/"), "user info"),
        (with("https://token.example/#hush"), "fragment"),
        (with("/token"), "not an absolute https URL"),
        (with("token.example"), "not an absolute https URL"),
        (with("ftp://token.example/"), "not an absolute https URL"),
        (with("https://token.example:0/"), "not an absolute https URL"),
        (with(""), "not an absolute https URL"),
        (with(&long), "more than 2,048"),
        (
            metadata(r#","token_endpoint_auth_methods_supported":["private_key_jwt"]"#),
            "choose one with `.client_auth(..)`: private_key_jwt",
        ),
    ] {
        let error = failure(vec![answer(200, body)]).await;
        assert!(matches!(kind(&error), Kind::Metadata(_)), "{error:?}");
        let text = error.to_string();
        assert!(!error.is_transient() && text.contains(expected), "{expected}: {text}");
    }
}

#[tokio::test]
async fn what_is_no_metadata_is_permanent_if_an_operator_must_change_something() {
    let html = || answer(200, "\n<!doctype html>");
    let redirect = || answer_with(301, &[("location", "https://evil.example/")], "");
    let huge = || streamed(200, vec![Some(vec![b' '; 1024 * 1024].into()); 2]);
    let nothing = || answer(404, "nothing here");
    for (steps, expected, text) in [
        (vec![html(), html()], Kind::Unreadable("a page of HTML or XML"), "HTML"),
        (vec![html(), nothing()], Kind::Unreadable("a page of HTML or XML"), "HTML"),
        (vec![nothing(), html()], Kind::Unreadable("a page of HTML or XML"), "HTML"),
        (vec![redirect(), nothing()], Kind::Redirected, "not followed"),
        (vec![nothing(), redirect()], Kind::Redirected, "not followed"),
        (vec![nothing(), nothing()], Kind::Refused, "(HTTP 404 Not Found): check the issuer"),
        (vec![answer(403, ""), nothing()], Kind::Refused, "(HTTP 403 Forbidden)"),
        (vec![huge()], Kind::TooLarge, "more than 1 MiB"),
    ] {
        let error = failure(steps).await;
        assert_eq!(kind(&error), &expected);
        assert!(!error.is_transient() && error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn what_may_pass_is_transient() {
    let busy = || answer_with(503, &[("retry-after", "7")], "");
    let nothing = || answer(404, "");
    for (steps, expected) in [
        (vec![refused()], Kind::Unreachable),
        (vec![cut()], Kind::Interrupted),
        (vec![answer(404, ""), cut()], Kind::Interrupted),
        (vec![streamed(200, vec![Some("{".into()), None])], Kind::Interrupted),
        (vec![busy(), nothing()], Kind::Unavailable),
        (vec![nothing(), busy()], Kind::Unavailable),
        (vec![answer(429, ""), nothing()], Kind::Unavailable),
        (vec![answer(200, "")], Kind::Unreadable("nothing")),
        (vec![answer(200, r#"{"issuer":"https"#)], Kind::Unreadable("JSON that is not metadata")),
        (vec![answer(200, r#"{"issuer":7}"#)], Kind::Unreadable("JSON that is not metadata")),
        (vec![answer(200, "[]")], Kind::Unreadable("something that is not a JSON object")),
    ] {
        let error = failure(steps).await;
        assert_eq!(kind(&error), &expected);
        assert!(error.is_transient() && !error.concerns_key_only(), "{error}");
    }
    let error = failure(vec![busy(), nothing()]).await;
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
}

// ===== What is done with it =====

#[tokio::test]
async fn the_way_to_authenticate_is_chosen_by_the_service_unless_it_is_set() {
    let methods =
        |methods: &str| metadata(&format!(r#","token_endpoint_auth_methods_supported":{methods}"#));
    let basic = ("Basic bXktYXBwOmh1c2gtaHVzaA==", "grant_type=client_credentials");
    let body = ("", "grant_type=client_credentials&client_id=my-app&client_secret=hush-hush");
    let id = ("", "grant_type=client_credentials&client_id=my-app");
    let with_secret = || issuer(ISSUER);
    let with_id = || TokenEndpoint::discover(ISSUER).client_id("my-app");
    for (builder, methods, expected) in [
        (with_secret(), "null", basic),
        (with_secret(), r#"["client_secret_post","client_secret_basic"]"#, basic),
        (with_secret(), r#"["none","client_secret_post"]"#, body),
        (with_secret().client_auth(ClientAuth::Body), r#"["client_secret_basic"]"#, body),
        (with_secret().client_auth(ClientAuth::Basic), r#"["client_secret_post"]"#, basic),
        (with_id(), r#"["client_secret_basic","none"]"#, id),
        (with_id().client_auth(ClientAuth::None), r#"["private_key_jwt"]"#, id),
    ]
    .map(|(builder, methods_of, expected)| (builder, methods(methods_of), expected))
    {
        let service = Scripted::new([answer(200, methods.clone()), token()]);
        let endpoint = builder.transport(service.clone()).build().unwrap();
        fetch(&endpoint).await.unwrap();
        let seen = service.seen().remove(1);
        assert_eq!((seen.header("authorization"), seen.body.as_str()), expected, "{methods}");
    }
}

#[tokio::test]
async fn without_a_certificate_the_alias_for_certificates_is_not_used() {
    let aliases = r#","mtls_endpoint_aliases":{"token_endpoint":"https://mtls.example/token"}"#;
    let (endpoint, service) = discovered([answer(200, metadata(aliases)), token()]);
    fetch(&endpoint).await.unwrap();
    assert_eq!(asked(&service), [get(OAUTH), post(TOKEN_URL)]);
}

#[tokio::test]
async fn an_error_of_the_endpoint_names_the_endpoint_and_not_the_issuer() {
    let (endpoint, _) = discovered([found(), answer(401, r#"{"error":"invalid_client"}"#)]);
    let error = fetch(&endpoint).await.unwrap_err();
    assert!(!cause(&error).is_about_metadata());
    let text = error.to_string();
    assert!(text.contains(&format!("the token endpoint {TOKEN_URL} refused")), "{text}");
}

#[tokio::test]
async fn a_url_that_is_set_afterwards_needs_no_metadata() {
    let service = Scripted::new([token()]);
    let endpoint = issuer(ISSUER).url(TOKEN_URL).transport(service.clone()).build().unwrap();
    fetch(&endpoint).await.unwrap();
    assert_eq!(asked(&service), [post(TOKEN_URL)]);
}

#[tokio::test]
async fn plaintext_is_for_a_plain_issuer_on_this_machine_or_if_it_is_allowed() {
    let (local, remote) = ("http://127.0.0.1:1/as", "http://issuer.example");
    let secure = "https://127.0.0.1:1/as";
    let with = |name: &str, url: &str| {
        let body = format!(r#"{{"issuer":"{name}","token_endpoint":"{url}"}}"#);
        Scripted::new([answer(200, body), token()])
    };
    let endpoint = |builder: TokenEndpointBuilder, service| builder.transport(service).build();
    let near = endpoint(issuer(local), with(local, "http://127.0.0.1:1/token")).unwrap();
    fetch(&near).await.unwrap();
    // A proxy on the way would see it.
    let mixed = endpoint(issuer(secure), with(secure, "http://127.0.0.1:1/token")).unwrap();
    assert!(matches!(kind(&fetch(&mixed).await.unwrap_err()), Kind::Metadata(_)));
    let far = endpoint(issuer(local), with(local, "http://token.example/")).unwrap();
    assert!(matches!(kind(&fetch(&far).await.unwrap_err()), Kind::Metadata(_)));

    let error = endpoint(issuer(remote), Scripted::default()).unwrap_err().to_string();
    assert!(error.contains("`discover` is plain http to another host"), "{error}");
    let service = with(remote, "http://token.example/");
    fetch(&endpoint(issuer(remote).allow_plaintext(), service).unwrap()).await.unwrap();
}

#[test]
fn what_is_no_issuer_is_refused_when_the_endpoint_is_built() {
    for (text, expected) in [
        ("", "not a valid URL"),
        ("issuer.example", "not absolute"),
        ("/tenant", "not absolute"),
        ("ftp://issuer.example", "not absolute"),
        ("https://{tenant}.example", "placeholder"),
        ("https://me:hush@issuer.example", "user info"),
        ("https://issuer.example?x=hush", "a query"),
        ("https://issuer.example#hush", "a fragment"),
        ("https://issuer.example:0", "a port"),
        (OPENID, "is the URL of metadata"),
    ] {
        let error = issuer(text).transport(Scripted::default()).build().unwrap_err().to_string();
        assert!(error.contains("`discover`") && error.contains(expected), "{text}: {error}");
        assert!(!error.contains("hush"), "{error}");
    }
}

// ===== How long it is kept =====

#[tokio::test(start_paused = true)]
async fn metadata_are_kept_as_long_as_they_say_within_bounds() {
    for (step, minutes) in [
        (kept_for("max-age=1800"), 30),
        (kept_for("public, max-age=0"), 5),
        (kept_for("max-age=604800"), 24 * 60),
        (kept_for("no-store"), 5),
        (found(), 60),
    ] {
        let (endpoint, service) = discovered([step, token(), token(), found(), token()]);
        let second = Duration::from_secs(1);
        fetch(&endpoint).await.unwrap();
        tokio::time::advance((minutes * MINUTE).saturating_sub(second)).await;
        fetch(&endpoint).await.unwrap();
        tokio::time::advance(second).await;
        fetch(&endpoint).await.unwrap();
        let expected = [get(OAUTH), post(TOKEN_URL), post(TOKEN_URL), get(OAUTH), post(TOKEN_URL)];
        assert_eq!(asked(&service), expected, "{minutes}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_last_serves_while_a_new_reading_fails() {
    let elsewhere = "https://token.example/v3/token";
    let bad = || answer(200, r#"{"issuer":"https://evil.example"}"#);
    for failing in [refused(), cut(), bad(), moved_to("http://evil.example/"), Step::Hang] {
        let steps = [found(), token(), failing, token(), token(), moved_to(elsewhere), token()];
        let (endpoint, service) = discovered(steps);
        fetch(&endpoint).await.unwrap();
        tokio::time::advance(61 * MINUTE).await;
        // The reading fails; for a minute there is no other.
        fetch(&endpoint).await.unwrap();
        fetch(&endpoint).await.unwrap();
        tokio::time::advance(MINUTE).await;
        fetch(&endpoint).await.unwrap();
        let expected = [
            get(OAUTH),
            post(TOKEN_URL),
            get(OAUTH),
            post(TOKEN_URL),
            post(TOKEN_URL),
            get(OAUTH),
            post(elsewhere),
        ];
        assert_eq!(asked(&service), expected);
    }
}

#[cfg(feature = "tracing")]
#[tokio::test(start_paused = true)]
async fn a_reading_that_fails_while_older_metadata_serve_is_logged() {
    use crate::log::Log;

    let _log = Log::from_level(tracing::Level::INFO);
    let steps = [kept_for("no-store"), token(), answer(503, ""), answer(404, ""), token()];
    let (endpoint, _) = discovered(steps);
    fetch(&endpoint).await.unwrap();
    assert!(Log::lines().is_empty());
    tokio::time::advance(5 * MINUTE).await;
    fetch(&endpoint).await.unwrap();
    let lines = Log::lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("could not be read again"), "{lines:?}");
    assert!(lines[0].contains(OAUTH) && lines[0].contains("503"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn the_metadata_are_read_again_if_the_endpoint_seems_to_have_moved() {
    let elsewhere = "https://token.example/v3/token";
    let gone = [answer(404, ""), answer(405, ""), answer(410, ""), refused(), answer(307, "")];
    for gone in gone {
        let steps = [found(), token(), gone, moved_to(elsewhere), token()];
        let (endpoint, service) = discovered(steps);
        fetch(&endpoint).await.unwrap();
        tokio::time::advance(5 * MINUTE).await;
        fetch(&endpoint).await.unwrap_err();
        fetch(&endpoint).await.unwrap();
        let expected = [get(OAUTH), post(TOKEN_URL), post(TOKEN_URL), get(OAUTH), post(elsewhere)];
        assert_eq!(asked(&service), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_has_the_metadata_read_no_more_often_than_every_five_minutes() {
    let gone = || answer(404, "");
    let (endpoint, service) =
        discovered([found(), gone(), gone(), cut(), gone(), refused(), gone(), gone()]);
    let fail = || async { fetch(&endpoint).await.unwrap_err() };
    for _ in 0..3 {
        fail().await;
    }
    assert_eq!(asked(&service), [get(OAUTH), post(TOKEN_URL), post(TOKEN_URL), post(TOKEN_URL)]);
    // The same if the new reading fails as well.
    tokio::time::advance(5 * MINUTE).await;
    for _ in 0..3 {
        fail().await;
    }
    let expected = [post(TOKEN_URL), get(OAUTH), post(TOKEN_URL), post(TOKEN_URL)];
    assert_eq!(asked(&service)[4..], expected);
}

// ===== Which fetch reads it =====

fn after_a_second(step: Step) -> Step {
    slow(Duration::from_secs(1), step)
}

fn gets(service: &Scripted) -> usize {
    service.seen().iter().filter(|seen| seen.method == Method::GET).count()
}

#[tokio::test(start_paused = true)]
async fn fetches_at_one_time_read_the_metadata_once() {
    let steps = [after_a_second(found())].into_iter().chain((0..50).map(|_| token()));
    let (endpoint, service) = discovered(steps);
    let tokens = join_all((0..50).map(|_| fetch(&endpoint))).await;
    assert!(tokens.iter().all(Result::is_ok), "{tokens:?}");
    assert_eq!((gets(&service), service.seen().len()), (1, 51));
}

#[tokio::test(start_paused = true)]
async fn concurrent_fetches_share_a_reading_that_fails_and_the_next_one_reads_again() {
    let (endpoint, service) =
        discovered([after_a_second(answer(503, "")), answer(404, ""), found(), token()]);
    let errors = join_all((0..50).map(|_| fetch(&endpoint))).await;
    for error in errors.into_iter().map(Result::unwrap_err) {
        assert_eq!(cause(&error).status().unwrap(), 503);
    }
    assert_eq!(service.seen().len(), 2);
    fetch(&endpoint).await.unwrap();
    assert_eq!(service.seen().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_dropped_while_it_reads_leaves_the_reading_to_the_next() {
    let (endpoint, service) = discovered([Step::Hang, found(), token()]);
    let mut dropped = Box::pin(fetch(&endpoint));
    assert!(futures_util::poll!(&mut dropped).is_pending());
    let mut waiting = Box::pin(fetch(&endpoint));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(dropped);
    waiting.await.unwrap();
    assert_eq!(asked(&service), [get(OAUTH), get(OAUTH), post(TOKEN_URL)]);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_not_driven_while_it_reads_holds_up_the_others_for_a_reading() {
    let steps = [Step::Hang, found()].into_iter().chain((0..50).map(|_| token()));
    let (endpoint, service) = discovered(steps);
    let mut undriven = Box::pin(fetch(&endpoint));
    assert!(futures_util::poll!(&mut undriven).is_pending());
    let others = join_all((0..50).map(|_| fetch(&endpoint)));
    let tokens = tokio::time::timeout(10 * Duration::from_secs(1), others).await.expect("bounded");
    assert!(tokens.iter().all(Result::is_ok), "{tokens:?}");
    assert_eq!((gets(&service), service.seen().len()), (2, 52));
    drop(undriven);
}

#[tokio::test(start_paused = true)]
async fn while_metadata_are_read_again_other_fetches_use_what_was_read_last() {
    let (endpoint, service) = discovered([found(), token(), Step::Hang, token(), token()]);
    fetch(&endpoint).await.unwrap();
    tokio::time::advance(61 * MINUTE).await;
    let mut reading = Box::pin(fetch(&endpoint));
    assert!(futures_util::poll!(&mut reading).is_pending());
    fetch(&endpoint).await.unwrap();
    // A cache may give an attempt less time than a reading may take.
    drop(reading);
    fetch(&endpoint).await.unwrap();
    assert_eq!(asked(&service)[2..], [get(OAUTH), post(TOKEN_URL), post(TOKEN_URL)]);
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_stalls_is_bounded_and_the_cache_leaves_it_the_time() {
    let (second, nothing) = (Duration::from_secs(1), || after_a_second(answer(404, "")));
    for (timeout, bound, attempt) in
        [(None, 5 * second, None), (Some(3 * second), 3 * second, Some(10 * second))]
    {
        // Both URLs together.
        let service = Scripted::new([nothing(), Step::Hang]);
        let mut builder = issuer(ISSUER).transport(service);
        if let Some(timeout) = timeout {
            builder = builder.timeout(timeout);
        }
        let endpoint = builder.build().unwrap();
        assert_eq!(endpoint.attempt_timeout(), attempt);
        let started = tokio::time::Instant::now();
        let error = fetch(&endpoint).await.unwrap_err();
        assert_eq!((kind(&error), started.elapsed()), (&Kind::Timeout, bound));
        assert!(cause(&error).is_about_metadata() && error.is_transient(), "{error}");
    }
}

#[tokio::test]
async fn a_refresh_token_is_not_spent_while_nobody_knows_where_to_send_it() {
    let new = r#"{"access_token":"at-1","refresh_token":"rt-2","expires_in":60}"#;
    let service = Scripted::new([cut(), answer(200, ""), found(), answer(200, new)]);
    let endpoint = issuer(ISSUER).refresh_token("rt-1").transport(service.clone());
    let endpoint = endpoint.build().unwrap();
    for _ in 0..2 {
        let error = fetch(&endpoint).await.unwrap_err();
        assert!(error.is_transient() && cause(&error).is_about_metadata(), "{error}");
    }
    assert_eq!(fetch(&endpoint).await.unwrap().refresh_token(), Some("rt-2"));
    assert_eq!(service.bodies()[3], "grant_type=refresh_token&refresh_token=rt-1");
}

#[tokio::test]
async fn nothing_is_fetched_because_a_challenge_names_it() {
    use tower_bearer::{Challenge, Reason, TokenRequest};

    let challenge = r#"Bearer resource_metadata="https://evil.example/", issuer="https://evil.example", as_uri="https://evil.example/""#;
    let headers = [(http::header::WWW_AUTHENTICATE, challenge.parse().unwrap())];
    let challenge = Challenge::from_headers(&headers.into_iter().collect()).remove(0);
    assert_eq!(challenge.param("issuer"), Some("https://evil.example"));
    let (endpoint, service) = discovered([found(), token()]);
    let request = TokenRequest::new(Reason::Rejected).with_challenge(challenge);
    endpoint.fetch(request).await.unwrap();
    assert_eq!(asked(&service), [get(OAUTH), post(TOKEN_URL)]);
}

#[cfg(feature = "reqwest")]
#[tokio::test]
async fn the_ready_made_transport_reads_them_and_follows_no_redirect() {
    use axum::{
        Router,
        response::Redirect,
        routing::{get, post},
    };

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let of =
        |path: &str| format!(r#"{{"issuer":"{origin}{path}","token_endpoint":"{origin}/token"}}"#);
    let (good, lured) = (of("/as"), of("/lure"));
    let lure = || async { Redirect::temporary("/lured") };
    let router = Router::new()
        .route("/token", post(async || OK))
        .route("/as/.well-known/openid-configuration", get(async || good))
        .route("/.well-known/oauth-authorization-server/lure", get(lure))
        .route("/lure/.well-known/openid-configuration", get(lure))
        .route("/lured", get(async || lured));
    tokio::spawn(axum::serve(listener, router).into_future());

    let endpoint = issuer(&format!("{origin}/as")).build().unwrap();
    assert_eq!(fetch(&endpoint).await.unwrap().secret(), "at-1");
    let endpoint = issuer(&format!("{origin}/lure")).build().unwrap();
    assert_eq!(kind(&fetch(&endpoint).await.unwrap_err()), &Kind::Redirected);
}

// ===== Assertions =====

#[cfg(feature = "jwt")]
fn signing() -> tower_bearer::oauth2::ClientAssertion {
    tower_bearer::oauth2::ClientAssertion::client_secret("a-secret-of-thirty-two-characters")
}

#[cfg(feature = "jwt")]
#[tokio::test]
async fn an_assertion_is_for_the_issuer_that_is_discovered() {
    let service = Scripted::new([found(), token()]);
    let endpoint = TokenEndpoint::discover(ISSUER).client_id("my-app");
    let endpoint = endpoint.client_assertion(signing()).transport(service.clone());
    fetch(&endpoint.build().unwrap()).await.unwrap();
    assert_eq!(asked(&service), [get(OAUTH), post(TOKEN_URL)]);
    let sent = &service.seen()[1];
    assert_eq!(sent.assertion().claim("aud"), ISSUER);
    assert_eq!((&*sent.param("client_id"), &*sent.param("client_secret")), ("my-app", ""));
    assert!(!sent.header_names().contains(&"authorization"));
}

#[cfg(feature = "jwt")]
#[test]
fn an_assertion_for_a_url_that_is_not_known_yet_is_an_error_of_the_builder() {
    let assertion = signing().audience(tower_bearer::oauth2::Audience::TokenEndpoint);
    let endpoint = TokenEndpoint::discover(ISSUER).client_id("my-app");
    let error = endpoint.client_assertion(assertion).build().unwrap_err();
    assert!(error.to_string().contains("`client_assertion`"), "{error}");
    assert!(error.to_string().contains("metadata"), "{error}");
}
