//! The ready-made transport, against real sockets on loopback.

use std::{error::Error, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tower::ServiceExt;
use tower_bearer::{
    AccessToken, TokenError,
    oauth2::{EndpointErrorKind as Kind, ReqwestService, TokenEndpoint, TokenEndpointBuilder},
};

use super::support::{OK, cause, fetch, kind, shown};

const BOUND: Duration = Duration::from_secs(30);

/// A server for one connection: it reads one request and writes those bytes.
async fn server(answer: String) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
        request
    });
    (address, serving)
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() == length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        assert!(stream.read_buf(&mut read).await.unwrap() > 0, "the request ended early");
    }
}

fn http(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    )
}

fn endpoint(address: SocketAddr) -> TokenEndpointBuilder {
    TokenEndpoint::builder(format!("http://{address}/token?tenant=hush-tenant"))
        .client_id("my-app")
        .client_secret("hush-hush")
}

async fn bounded(builder: TokenEndpointBuilder) -> Result<AccessToken, TokenError> {
    let endpoint = builder.build().unwrap();
    tokio::time::timeout(BOUND, fetch(&endpoint)).await.expect("bounded")
}

#[tokio::test]
async fn the_request_on_the_wire_is_the_documented_one() {
    let (address, serving) = server(http("200 OK", "", OK)).await;
    let token = bounded(endpoint(address).scope("a b")).await.unwrap();
    assert_eq!(token.secret(), "at-1");
    let request = serving.await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().collect();
    lines[1..].sort_unstable();
    let host = format!("host: {address}");
    let user_agent = concat!("user-agent: tower-bearer/", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        lines,
        [
            "POST /token?tenant=hush-tenant HTTP/1.1",
            "accept: application/json",
            "authorization: Basic bXktYXBwOmh1c2gtaHVzaA==",
            "content-length: 39",
            "content-type: application/x-www-form-urlencoded",
            host.as_str(),
            user_agent,
        ]
    );
    assert_eq!(body, "grant_type=client_credentials&scope=a+b");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    // 302: reqwest would follow it with a request that needs no body.
    let (target, followed) = server(http("200 OK", "", OK)).await;
    let location = format!("location: http://{target}/\r\n");
    let (address, _) = server(http("302 Found", &location, "")).await;
    let error = bounded(endpoint(address)).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::Redirected);
    assert_eq!(cause(&error).status().unwrap(), 302);
    assert!(!followed.is_finished());
}

#[tokio::test]
async fn a_refused_connection_is_distinguished_from_one_that_is_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = bounded(endpoint(address)).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::Unreachable);
    assert!(error.is_transient() && error.to_string().contains(&address.to_string()), "{error}");
    assert!(!shown(&error).contains("hush"), "{error:?}");

    let whole = http("200 OK", "", OK);
    for kept in [0, 20, whole.len() - 10] {
        let (address, _) = server(whole[..kept].to_owned()).await;
        let error = bounded(endpoint(address)).await.unwrap_err();
        assert_eq!(*kind(&error), Kind::Interrupted, "{kept}: {error}");
        assert!(error.is_transient() && !shown(&error).contains("hush"), "{error:?}");
    }
}

#[tokio::test]
async fn an_answer_that_drips_past_the_timeout_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dripping = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        // Until the client hangs up, which is what the test waits for.
        while stream.write_all(b" ").await.is_ok() {
            ticks.tick().await;
        }
    });
    let error = bounded(endpoint(address).timeout(Duration::from_millis(200))).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::Timeout);
    tokio::time::timeout(BOUND, dripping).await.expect("the connection is closed").unwrap();
}

#[tokio::test]
async fn the_adapter_takes_any_body_and_keeps_status_headers_and_body() {
    let (address, serving) = server(http("418 I'm a teapot", "x-kind: teapot\r\n", "short")).await;
    let body = Full::new(Bytes::from_static(b"stout")).map_err(|never| match never {});
    let body = BodyExt::boxed(
        body.map_err(|never: std::convert::Infallible| -> std::io::Error { match never {} }),
    );
    let request = Request::put(format!("http://{address}/pot")).body(body).unwrap();
    let response = ReqwestService::default().oneshot(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-kind"]),
        (418, &"teapot".parse().unwrap())
    );
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "short");
    let request = serving.await.unwrap();
    assert!(request.starts_with("PUT /pot HTTP/1.1\r\n") && request.ends_with("\r\n\r\nstout"));
}

#[tokio::test]
async fn the_adapter_that_makes_its_own_client_follows_no_redirect() {
    let (other, followed) = server(http("200 OK", "", "")).await;
    let location = format!("location: http://{other}/\r\n");
    let (address, _) = server(http("302 Found", &location, "")).await;
    let request = Request::get(format!("http://{address}/")).body(reqwest::Body::default());
    let response = ReqwestService::default().oneshot(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 302);
    assert!(!followed.is_finished());
}

#[tokio::test]
async fn an_error_of_the_adapter_keeps_the_host_and_nothing_secret_of_the_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let request = |url: String| Request::get(url).body(reqwest::Body::default()).unwrap();
    let url = format!("http://us-hush:pw-hush@{address}/path?key=hush");
    let error = ReqwestService::default().oneshot(request(url)).await.unwrap_err();
    let mut shown = format!("{error} {error:?}");
    let mut next = error.source();
    while let Some(source) = next {
        shown = format!("{shown} {source} {source:?}");
        next = source.source();
    }
    assert!(shown.contains(&format!("http://{address}/path")), "{shown}");
    assert!(!shown.contains("hush"), "{shown}");
    assert!(error.is_connect());

    let error = ReqwestService::default().oneshot(request("/relative".into())).await.unwrap_err();
    assert!(error.is_builder(), "{error:?}");
}

/// Runs a test of this file in a process whose environment names a proxy that is not there.
#[tokio::test]
async fn an_endpoint_on_this_machine_is_not_reached_through_a_proxy_of_the_environment() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sockets::the_request_on_the_wire_is_the_documented_one"])
        .envs(["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"].map(|name| (name, &nobody)))
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(BOUND, child).await.expect("bounded").unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
async fn a_handshake_that_fails_has_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/token", listener.local_addr().unwrap());
    let accepting = tokio::spawn(async move { listener.accept().await.map(drop) });
    let builder = TokenEndpoint::builder(url).client_id("my-app").client_secret("hush-hush");
    let error = bounded(builder).await.unwrap_err();
    assert_eq!(*kind(&error), Kind::Unreachable, "{error}");
    accepting.await.unwrap().unwrap();
}
