//! What an error says, what it does not say, and whether it may pass.

use std::time::Duration;

use tower_bearer::{
    Secret,
    oauth2::{ClientAuth, EndpointErrorKind as Kind},
};

use super::support::{
    Scripted, Step, answer, answer_with, cause, client, cut, fetch, fetch_with, kind, refused,
    shown,
};

#[tokio::test]
async fn an_oauth_error_carries_status_code_and_description() {
    let body = r#"{"error":"invalid_scope","error_description":"no such scope"}"#;
    let error = fetch_with(client(), answer(400, body)).await.unwrap_err();
    let cause = cause(&error);
    assert_eq!(cause.status().unwrap(), 400);
    assert_eq!(cause.error(), Some("invalid_scope"));
    assert_eq!(cause.error_description(), Some("no such scope"));
    assert_eq!(cause.retry_after(), None);
    let text = error.to_string();
    assert!(text.contains("https://auth.example.com"), "{text}");
    assert!(
        text.ends_with("refused (HTTP 400 Bad Request): invalid_scope: no such scope"),
        "{text}"
    );
}

#[tokio::test]
async fn an_error_shows_the_path_of_the_endpoint_and_neither_query_nor_user_info() {
    for (url, shown) in [
        ("https://auth.example.com/v1/tokne?key=hush", "https://auth.example.com/v1/tokne "),
        ("https://AUTH.example.com:443?key=hush", "https://auth.example.com/ "),
        ("http://127.0.0.1:4901/a", "http://127.0.0.1:4901/a "),
    ] {
        for step in [answer(400, ""), answer(200, ""), cut(), refused()] {
            let error = fetch_with(client().url(url), step).await.unwrap_err();
            assert!(error.to_string().contains(shown), "{error}");
            assert!(!super::support::shown(&error).contains("hush"), "{error:?}");
        }
    }
    let long = format!("https://auth.example.com/{}", "x".repeat(5000));
    let error = fetch_with(client().url(long), cut()).await.unwrap_err();
    assert!(error.to_string().len() < 1000, "{error}");
}

#[tokio::test]
async fn a_refusal_is_distinguished_from_an_answer_that_refuses_nothing() {
    for (status, body, expected) in [
        (404, "<html>", "answered (HTTP 404 Not Found): check the URL"),
        (
            404,
            r#"{"status":404,"error":"Not Found","path":"/tokne"}"#,
            "answered (HTTP 404 Not Found): Not Found: check the URL",
        ),
        (405, "", "answered (HTTP 405 Method Not Allowed): check the URL"),
        (404, r#"{"error":"invalid_client"}"#, "refused (HTTP 404 Not Found): invalid_client"),
        (503, "", "answered (HTTP 503 Service Unavailable)"),
        (
            503,
            r#"{"error":"temporarily_unavailable"}"#,
            "answered (HTTP 503 Service Unavailable): temporarily_unavailable",
        ),
        (500, r#"{"error":"oops"}"#, "answered (HTTP 500 Internal Server Error): oops"),
        (429, "", "answered (HTTP 429 Too Many Requests)"),
        (429, r#"{"error":"slow_down"}"#, "answered (HTTP 429 Too Many Requests): slow_down"),
        (408, "", "answered (HTTP 408 Request Timeout)"),
        (400, "", "refused (HTTP 400 Bad Request)"),
        (401, "", "refused (HTTP 401 Unauthorized)"),
        (403, "<html>", "refused (HTTP 403 Forbidden)"),
        (200, r#"{"error":"invalid_scope"}"#, "refused (HTTP 200 OK): invalid_scope"),
    ] {
        let error = fetch_with(client(), answer(status, body)).await.unwrap_err();
        let text = error.to_string();
        let (_, said) = text.split_once("/token ").unwrap();
        assert_eq!(said, expected);
        let is_unavailable = status >= 500 || [408, 429].contains(&status);
        let expected = if is_unavailable { Kind::Unavailable } else { Kind::Refused };
        assert_eq!(*kind(&error), expected, "{said}");
    }
}

#[tokio::test]
async fn a_token_that_is_not_a_text_is_distinguished_from_a_missing_one() {
    for token in ["12", "true", "false", "{}", "[\"hush\"]"] {
        let body = format!(r#"{{"access_token":{token}}}"#);
        let error = fetch_with(client(), answer(200, body)).await.unwrap_err();
        let expected = "answered without an access token (HTTP 200 OK): \
                        its value is not a text";
        assert!(error.to_string().ends_with(expected), "{token}: {error}");
    }
    for body in [r#"{"access_token":null}"#, r#"{"access_token":""}"#, r#"{"token":12}"#] {
        let error = fetch_with(client(), answer(200, body)).await.unwrap_err();
        assert!(error.to_string().contains(".field(Field::AccessToken, ..)"), "{body}: {error}");
    }
}

#[tokio::test]
async fn a_200_can_carry_an_error() {
    let body = r#"{"error":"incorrect_client_credentials","access_token":"hush"}"#;
    let error = fetch_with(client(), answer(200, body)).await.unwrap_err();
    assert_eq!(cause(&error).error(), Some("incorrect_client_credentials"));
    assert!(!error.is_transient());
}

#[tokio::test]
async fn what_may_pass_is_transient_and_what_stays_is_not() {
    let error = |code: &str| format!(r#"{{"error":"{code}"}}"#);
    for (status, body, is_transient) in [
        (500, String::new(), true),
        (502, "<html>".to_owned(), true),
        (503, error("invalid_client"), true),
        (429, String::new(), true),
        (408, String::new(), true),
        (400, error("slow_down"), true),
        (400, error("server_error"), true),
        (400, error("temporarily_unavailable"), true),
        (200, error("temporarily_unavailable"), true),
        (200, String::new(), true),
        (400, error("invalid_client"), false),
        (401, error("invalid_client"), false),
        (401, String::new(), false),
        (403, String::new(), false),
        (404, "<html>".to_owned(), false),
        (200, error("invalid_scope"), false),
    ] {
        let error = fetch_with(client(), answer(status, body.clone())).await.unwrap_err();
        assert_eq!(error.is_transient(), is_transient, "{status} {body}");
    }
    for step in [cut(), refused()] {
        assert!(fetch_with(client(), step).await.unwrap_err().is_transient());
    }
}

#[tokio::test]
async fn a_refused_connection_is_unreachable_and_a_cut_one_interrupted() {
    let error = fetch_with(client(), refused()).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::Unreachable);
    let error = fetch_with(client(), cut()).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::Interrupted);
    assert!(error.to_string().ends_with("broke off: the connection was cut"), "{error}");
}

#[tokio::test]
async fn retry_after_is_passed_on_and_a_thousand_years_are_bounded() {
    for (value, expected) in [
        ("7", Some(Duration::from_secs(7))),
        ("31536000000", Some(Duration::from_secs(24 * 3600))),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(Duration::ZERO)),
        ("Sun, 06 Nov 3025 08:49:37 GMT", Some(Duration::from_secs(24 * 3600))),
        ("soon", None),
    ] {
        let step = answer_with(503, &[("retry-after", value)], "");
        let error = fetch_with(client(), step).await.unwrap_err();
        assert_eq!(error.retry_after(), expected, "{value}");
        assert_eq!(cause(&error).retry_after(), expected, "{value}");
    }
}

#[tokio::test]
async fn an_exchange_that_takes_too_long_is_given_up() {
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    let error = fetch_with(client().timeout(Duration::from_secs(4)), Step::Hang).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::Timeout);
    assert!(error.is_transient());
    // tokio's timer counts in milliseconds and rounds up.
    assert_eq!(begin.elapsed().as_secs(), 4);
}

#[tokio::test]
async fn an_error_in_a_list_or_an_object_counts_as_one_of_its_own() {
    for (body, code, is_transient) in [
        (r#"{"errors":[{"errorType":"invalid_grant","message":"m"}]}"#, "invalid_grant", false),
        (r#"{"errors":["invalid_client"]}"#, "invalid_client", false),
        (r#"{"error":{"code":"invalid_scope","message":"m"}}"#, "invalid_scope", false),
        (r#"{"errors":[{"code":"temporarily_unavailable"}]}"#, "temporarily_unavailable", true),
    ] {
        for status in [200, 400] {
            let error = fetch_with(client(), answer(status, body)).await.unwrap_err();
            assert_eq!(*kind(&error), Kind::Refused, "{status} {body}");
            assert_eq!(cause(&error).error(), Some(code), "{status} {body}");
            assert_eq!(error.is_transient(), is_transient, "{status} {body}");
        }
    }
    // Whatever it is, it is an error and no answer without a token.
    let error = fetch_with(client(), answer(200, r#"{"errors":[{"x":1}]}"#)).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::Refused);
}

/// The whole request, echoed in every way that a server might.
#[tokio::test]
async fn no_secret_is_shown_however_the_service_echoes_it() {
    let secret = "hu/sh \"q\"+é";
    for client_auth in [ClientAuth::Basic, ClientAuth::BasicRaw, ClientAuth::Body] {
        let builder = || {
            client()
                .client_secret(secret)
                .client_auth(client_auth)
                .secret_param("apikey", "key/key=")
                .header("x-gateway-key", Secret::new("gate-gate-gate"))
        };
        let seen = super::support::sent(builder()).await;
        let echo = format!(
            "{} {} {secret} {} gate-gate-gate at-at-at",
            seen.body,
            seen.header("authorization"),
            seen.header("authorization").trim_end_matches('='),
        );
        let member = |name: &str| {
            serde_json::json!({"error": name, "error_description": echo,
            "access_token": "at-at-at"})
        };
        for (status, name) in [(400, "invalid_client"), (200, echo.as_str())] {
            let step = answer(status, member(name).to_string());
            let shown = shown(&fetch_with(builder(), step).await.unwrap_err());
            for piece in ["hu", "sh \"", "key/key", "key%2F", "gate-gate", "at-at"] {
                assert!(!shown.contains(piece), "{piece}: {shown}");
            }
            let basic = seen.header("authorization").trim_start_matches("Basic ");
            assert!(basic.is_empty() || !shown.contains(basic.trim_end_matches('=')), "{shown}");
        }
        let broken = Step::Fail(format!("could not send `{echo}`").into());
        let shown = shown(&fetch_with(builder(), broken).await.unwrap_err());
        assert!(!shown.contains("hu") && !shown.contains("key/key"), "{shown}");
    }
}

#[tokio::test]
async fn what_is_no_secret_is_shown_when_the_service_echoes_it() {
    let echo = "no audience `orders` for tenant blue-blue-blue, but for hush-param, hush-header";
    let body = serde_json::json!({"error": "invalid_request", "error_description": echo});
    let builder = client()
        .param("audience_hint", "orders")
        .header("x-tenant", "blue-blue-blue")
        .secret_param("key", "hush-param")
        .header("x-key", Secret::new("hush-header"));
    let error = fetch_with(builder, answer(400, body.to_string())).await.unwrap_err();
    let expected = "no audience `orders` for tenant blue-blue-blue, but for ***, ***";
    assert_eq!(cause(&error).error_description(), Some(expected));
}

#[tokio::test]
async fn no_secret_is_shown_however_the_service_escapes_its_echo() {
    let secret = "hu/sh q+&<x>";
    let each = |write: fn(u8) -> String| secret.bytes().map(write).collect::<String>();
    for echo in [
        "hu/sh q+&amp;&lt;x&gt;".to_owned(),
        "hu&#47;sh&nbsp;q".replace("&nbsp;", "&#32;") + "&#43;&#38;&#60;x&#62;",
        each(|byte| format!("&#x{byte:x};")),
        each(|byte| format!("%{byte:02X}")),
        each(|byte| format!("%{byte:02x}")),
        each(|byte| format!("\\u{byte:04x}")),
        "hu%2fsh+q%2b%26%3Cx%3e".to_owned(),
        "aHUvc2ggcSsmPHg+".to_owned(),
    ] {
        let body = serde_json::json!({"error": "invalid_client", "error_description": echo});
        let step = answer(400, body.to_string());
        let error = fetch_with(client().client_secret(secret), step).await.unwrap_err();
        assert_eq!(cause(&error).error_description(), Some("***"), "{echo}");
    }
}

#[tokio::test]
async fn what_the_service_says_is_printable_and_bounded() {
    let description = format!("a\u{1b}[2Jb\r\n{}", "x".repeat(100_000));
    let body = serde_json::json!({"error": "e\u{202e}", "error_description": description});
    let error = fetch_with(client(), answer(400, body.to_string())).await.unwrap_err();
    let found = cause(&error).error_description().unwrap();
    assert_eq!(found.len(), 512);
    assert!(found.starts_with("a?[2Jb  xxx"), "{found}");
    assert_eq!(cause(&error).error(), Some("e?"));
}

#[tokio::test]
async fn a_body_is_never_shown() {
    for (status, body) in
        [(500, "plain hush"), (200, "{\"x\": hush"), (400, "hush=1&x"), (200, "[hush]")]
    {
        let error = fetch_with(client(), answer(status, body)).await.unwrap_err();
        assert!(!shown(&error).contains("hush"), "{error}");
    }
}

#[tokio::test]
async fn the_error_for_a_token_that_needs_a_proof_says_that_it_is_no_bearer_token() {
    for token_type in ["DPoP", "PoP", "mac", "N_A"] {
        let body = format!(r#"{{"access_token":"t","token_type":"{token_type}"}}"#);
        let error = fetch_with(client(), answer(200, body)).await.unwrap_err();
        assert_eq!(*kind(&error), Kind::NotBearer);
        assert!(error.to_string().contains("not a bearer token") && !error.is_transient());
    }
}

#[tokio::test]
async fn a_service_that_is_not_ready_was_sent_nothing() {
    #[derive(Clone)]
    struct NeverReady;
    impl tower::Service<http::Request<http_body_util::Full<bytes::Bytes>>> for NeverReady {
        type Response = http::Response<String>;
        type Error = &'static str;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Self::Error>> {
            std::task::Poll::Ready(Err("overloaded"))
        }
        fn call(&mut self, _: http::Request<http_body_util::Full<bytes::Bytes>>) -> Self::Future {
            panic!("called without being ready")
        }
    }
    let endpoint = client().transport(NeverReady).build().unwrap();
    let error = fetch(&endpoint).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::Unreachable);
    assert!(error.to_string().ends_with("overloaded"), "{error}");
}

#[tokio::test]
async fn each_exchange_is_made_on_a_service_that_was_polled_ready() {
    #[derive(Default)]
    struct OnlyReady {
        inner: Scripted,
        is_ready: bool,
    }
    impl Clone for OnlyReady {
        fn clone(&self) -> Self {
            Self { inner: self.inner.clone(), is_ready: false }
        }
    }
    impl tower::Service<http::Request<http_body_util::Full<bytes::Bytes>>> for OnlyReady {
        type Response = <Scripted as tower::Service<
            http::Request<http_body_util::Full<bytes::Bytes>>,
        >>::Response;
        type Error = tower_bearer::BoxError;
        type Future =
            <Scripted as tower::Service<http::Request<http_body_util::Full<bytes::Bytes>>>>::Future;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Self::Error>> {
            self.is_ready = true;
            std::task::Poll::Ready(Ok(()))
        }
        fn call(
            &mut self,
            request: http::Request<http_body_util::Full<bytes::Bytes>>,
        ) -> Self::Future {
            assert!(std::mem::take(&mut self.is_ready), "called without being ready");
            self.inner.call(request)
        }
    }
    let inner = Scripted::new([answer(200, super::support::OK), answer(200, super::support::OK)]);
    let endpoint = client().transport(OnlyReady { inner, is_ready: false }).build().unwrap();
    fetch(&endpoint).await.unwrap();
    fetch(&endpoint).await.unwrap();
}

#[tokio::test]
async fn a_secret_that_is_part_of_a_code_changes_nothing_about_its_meaning() {
    let builder = client().secret_param("zone", "server").secret_param("kind", "grant");
    let error = fetch_with(builder, answer(400, r#"{"error":"server_error"}"#)).await.unwrap_err();
    assert_eq!(cause(&error).error(), Some("***_error"));
    assert!(error.is_transient());
}
