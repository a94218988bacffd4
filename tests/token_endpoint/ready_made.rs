//! The settings of the ready-made transport: the authorities that it trusts, and its proxy.

use std::{net::SocketAddr, sync::Arc, sync::Mutex, time::Duration};

use axum::{Router, routing::post};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tower_bearer::{
    AccessToken, TokenError,
    oauth2::{EndpointErrorKind as Kind, TokenEndpoint, TokenEndpointBuilder},
};

use super::{
    support::{OK, Scripted, fetch, kind, shown},
    tls,
};

const BOUND: Duration = Duration::from_secs(30);

/// A token service over TLS: its URL, and the certificate of its authority in PEM.
async fn service() -> (String, String) {
    let router = Router::new().route("/token", post(async || OK));
    let (origin, authority) = tls::serve(router).await.unwrap();
    (format!("{origin}/token"), authority.pem())
}

fn endpoint(url: &str) -> TokenEndpointBuilder {
    TokenEndpoint::builder(url).client_id("my-app").client_secret("hush-hush")
}

async fn bounded(builder: TokenEndpointBuilder) -> Result<AccessToken, TokenError> {
    let endpoint = builder.build().unwrap();
    tokio::time::timeout(BOUND, fetch(&endpoint)).await.expect("bounded")
}

fn refusal(builder: TokenEndpointBuilder) -> String {
    let error = builder.build().unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hush"), "{shown}");
    error.to_string()
}

// ===== The authorities that it trusts =====

#[tokio::test]
async fn a_private_authority_is_trusted_once_its_certificate_is_given() {
    let (url, authority) = service().await;
    let error = bounded(endpoint(&url)).await.unwrap_err();
    assert_eq!(kind(&error), &Kind::Unreachable, "{error}");
    let (_, stranger) = service().await;
    let error = bounded(endpoint(&url).root_certificate(&stranger)).await.unwrap_err();
    assert_eq!(kind(&error), &Kind::Unreachable, "{error}");

    let bundle = format!("# ours\n{stranger}\n# theirs\n{authority}");
    for builder in [
        endpoint(&url).root_certificate(&authority),
        endpoint(&url).root_certificate(stranger).root_certificate(authority.as_bytes()),
        endpoint(&url).root_certificate(bundle),
    ] {
        assert_eq!(bounded(builder).await.unwrap().secret(), "at-1");
    }
}

#[tokio::test]
async fn what_is_no_certificate_is_refused_by_name() {
    let (url, authority) = service().await;
    let cut = authority.replacen('M', "", 1);
    let key = "-----BEGIN PRIVATE KEY-----\naHVzaA==\n-----END PRIVATE KEY-----\n";
    let garbage = "-----BEGIN CERTIFICATE-----\naHVzaA==\n-----END CERTIFICATE-----\n";
    let half = format!("{authority}{garbage}");
    for pem in ["", "/etc/ssl/hush.pem", key, garbage, &half, &cut] {
        let error = refusal(endpoint(&url).root_certificate(pem));
        assert!(error.contains("`root_certificate` holds no certificates in PEM"), "{error}");
    }
}

// ===== Its proxy =====

/// A proxy for tunnels: where it is, and the heads of the requests that it was sent.
pub(super) async fn proxy() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let head = head(&mut client).await;
            let target = head.split(' ').nth(1).unwrap().to_owned();
            seen.lock().unwrap().push(head);
            let mut server = TcpStream::connect(target).await.unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    (address, heads)
}

async fn head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_proxy_tunnels_what_it_cannot_read() {
    let (url, authority) = service().await;
    let host = url.strip_prefix("https://").unwrap().strip_suffix("/token").unwrap();
    let (proxy, heads) = proxy().await;
    for (user, authorization) in
        [("", None), ("me:hush@", Some("proxy-authorization: basic bwu6ahvzaa=="))]
    {
        let builder = endpoint(&url).root_certificate(&authority);
        let builder = builder.proxy(format!("http://{user}{proxy}"));
        assert_eq!(bounded(builder).await.unwrap().secret(), "at-1");
        let head = heads.lock().unwrap().pop().expect("it went by the proxy").to_lowercase();
        assert!(head.starts_with(&format!("connect {host} http/1.1\r\n")), "{head}");
        assert_eq!(head.lines().find(|line| line.starts_with("proxy-auth")), authorization);
        assert!(!head.lines().any(|line| line.starts_with("authorization")), "{head}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_away_is_a_failure_before_anything_was_sent() {
    let (url, authority) = service().await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let builder = endpoint(&url).root_certificate(authority);
    let error = bounded(builder.proxy(format!("http://me:hush@{nobody}"))).await.unwrap_err();
    assert_eq!(kind(&error), &Kind::Unreachable, "{error}");
    assert!(!shown(&error).contains("hush"), "{error:?}");
}

#[test]
fn a_proxy_that_cannot_be_or_could_read_the_credentials_is_refused_by_name() {
    let url = "https://auth.example.com/token";
    for proxy in ["", "hush", "proxy.example.com:3128", "ftp://hush/", "socks5://hush:1080"] {
        let error = refusal(endpoint(url).proxy(proxy));
        assert!(error.contains("`proxy` is not an `http` or `https` URL"), "{proxy}: {error}");
    }
    // Loopback is this machine's own, and the proxy is not.
    let local = || endpoint("http://127.0.0.1:1/token").proxy("http://proxy.example.com:3128");
    assert!(refusal(local()).contains("`proxy` could read the credentials"));
    local().allow_plaintext().build().unwrap();
    let debug = format!("{:?}", endpoint(url).proxy("http://me:hush@proxy.example.com"));
    assert!(!debug.contains("hush"), "{debug}");
}

#[test]
fn a_transport_that_is_given_has_its_own_settings() {
    let given = || endpoint("https://auth.example.com/token").transport(Scripted::default());
    for (builder, name) in [
        (given().proxy("http://proxy.example.com:3128"), "`proxy` is a setting"),
        (given().root_certificate("-----BEGIN"), "`root_certificate` is a setting"),
    ] {
        let error = refusal(builder);
        assert!(error.contains(name), "{error}");
    }
    given().build().unwrap();
}
