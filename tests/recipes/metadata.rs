//! The guide's recipes for the metadata servers of clouds, against servers that answer what their
//! documentation says to the requests that it says, and to no other.

include!("metadata/recipe.rs");

use std::{
    convert::Infallible,
    process::Command,
    sync::{Arc, Mutex},
};

use axum::{extract::Request, response::Response, routing::any};
use tokio::net::TcpListener;
use tower_bearer::{Reason, TokenRequest};

const PROXIES: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

/// A server on loopback, and the requests that it got.
struct Server {
    url: &'static str,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Gives those answers, one for each request.
    async fn answering(answers: impl IntoIterator<Item = (u16, &'static str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&seen);
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        let answers = Arc::new(Mutex::new(answers));
        let serve = any(move |request: Request| async move {
            notes.lock().unwrap().push(line(&request));
            let (status, location, body) = answers.lock().unwrap().pop().unwrap();
            let answer = Response::builder().status(status).header("location", location);
            Ok::<_, Infallible>(answer.body(axum::body::Body::from(body)).unwrap())
        });
        tokio::spawn(async { axum::serve(listener, serve.into_make_service()).await });
        Self { url: url.leak(), seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// Method, path and query, and the headers that make a request one for a metadata server.
fn line(request: &Request) -> String {
    let names = [
        "metadata-flavor",
        "metadata",
        "x-aws-ec2-metadata-token-ttl-seconds",
        "x-aws-ec2-metadata-token",
    ];
    let headers = names.iter().filter_map(|name| {
        let value = request.headers().get(*name)?;
        Some(format!(" {name}: {}", value.to_str().unwrap()))
    });
    format!("{} {}{}", request.method(), request.uri(), headers.collect::<String>())
}

fn ok(body: &str) -> (u16, &'static str, String) {
    (200, "", body.to_owned())
}

async fn fetch(source: &impl TokenSource) -> Result<AccessToken, TokenError> {
    source.fetch(TokenRequest::new(Reason::First)).await
}

#[tokio::test]
async fn google_gives_the_token_of_the_service_account() {
    let server = Server::answering([ok(
        r#"{"access_token":"ya29.A","expires_in":3599,"token_type":"Bearer"}"#,
    )]);
    let server = server.await;
    let token = fetch(&google(client().unwrap(), server.url)).await.unwrap();
    assert_eq!((token.secret(), token.lifetime()), ("ya29.A", Some(Duration::from_secs(3599))));
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    assert_eq!(server.seen(), [format!("GET {path} metadata-flavor: Google")]);
}

#[tokio::test]
async fn azure_gives_the_token_of_the_managed_identity() {
    let server = Server::answering([ok(
        r#"{"access_token":"eyJ0eXAi","refresh_token":"","expires_in":"86399",
            "expires_on":"1795737600","not_before":"1795651200",
            "resource":"https://vault.azure.net","token_type":"Bearer"}"#,
    )]);
    let server = server.await;
    let source = azure(client().unwrap(), server.url, "https://vault.azure.net");
    let token = fetch(&source).await.unwrap();
    assert_eq!((token.secret(), token.lifetime()), ("eyJ0eXAi", Some(Duration::from_secs(86_399))));
    let path = "/metadata/identity/oauth2/token?api-version=2018-02-01";
    assert_eq!(
        server.seen(),
        [format!("GET {path}&resource=https://vault.azure.net metadata: true")]
    );
}

#[tokio::test]
async fn ec2_opens_a_session_and_gives_what_somebody_exchanges_for_a_token() {
    let server = Server::answering([ok("AQAEA-session=="), ok("MIIB\nsigned")]).await;
    let login = |identity: Bytes| async move {
        assert_eq!(identity, "MIIB\nsigned");
        AccessToken::new("hvs.1").map_err(TokenError::permanent)
    };
    let token = fetch(&ec2(client().unwrap(), server.url, login)).await.unwrap();
    assert_eq!(token.secret(), "hvs.1");
    assert_eq!(
        server.seen(),
        [
            "PUT /latest/api/token x-aws-ec2-metadata-token-ttl-seconds: 60",
            "GET /latest/dynamic/instance-identity/pkcs7 \
             x-aws-ec2-metadata-token: AQAEA-session==",
        ]
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::answering([ok(r#"{"access_token":"a"}"#)]).await;
    let server = Server::answering([(302, elsewhere.url, String::new())]).await;
    let error = fetch(&google(client().unwrap(), server.url)).await.unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("302"), "{error}");
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_too_large_or_no_token_is_an_error_that_may_pass() {
    let large =
        format!(r#"{{"access_token":"a","expires_in":9,"more":"{}"}}"#, "a".repeat(64 * 1024));
    for bad in [&large, "<html>", r#"{"expires_in":3599}"#, r#"{"access_token":"a"}"#, ""] {
        let server = Server::answering([ok(bad)]).await;
        assert!(fetch(&google(client().unwrap(), server.url)).await.unwrap_err().is_transient());
    }
}

#[tokio::test]
async fn a_server_that_is_busy_may_recover_and_a_wrong_request_stays_wrong() {
    for (status, may_pass) in [(404, true), (410, true), (429, true), (503, true), (400, false)] {
        let server = Server::answering([(status, "", String::new())]).await;
        let error = fetch(&google(client().unwrap(), server.url)).await.unwrap_err();
        assert_eq!(error.is_transient(), may_pass, "{error}");
    }
}

/// The variables that name one are of the whole process, so this runs another.
#[test]
fn no_proxy_is_asked() {
    let mut run = Command::new(std::env::current_exe().unwrap());
    run.args(["--exact", "metadata::google_gives_the_token_of_the_service_account"]);
    // No server listens there.
    let output = run.envs(PROXIES.map(|name| (name, "http://127.0.0.1:1"))).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn what_runs_here_is_what_the_guide_says() {
    let guide = include_str!("../../src/guide/sources.md");
    assert!(guide.contains(include_str!("metadata/recipe.rs")));
}
