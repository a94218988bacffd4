//! Where a secret goes, and where it never does: by the certificate that a server shows, by the way
//! a URI is written, and whatever proxies and redirects there are.

use std::{
    net::SocketAddr,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body_util::Full;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use reqwest_middleware::{ClientBuilder, Error, Middleware, Next};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_bearer::{
    AccessToken, BearerAuthLayer, BearerAuthMiddleware, Reason, TokenRequest, from_fn,
    oauth2::{ReqwestService, TokenEndpoint},
};

const BOUND: Duration = Duration::from_secs(30);
const TOKEN: &str = "the-token";
const SECRET: &str = "the-client-secret";
const BASIC: &str = "bWU6dGhlLWNsaWVudC1zZWNyZXQ="; // me:the-client-secret
const ANSWER: &str = r#"{"access_token":"the-token","expires_in":3600}"#;

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(BOUND, work).await.expect("it takes too long")
}

fn layer(origin: &str) -> BearerAuthLayer {
    let token = || async { Ok(AccessToken::new(TOKEN).unwrap()) };
    BearerAuthLayer::new(from_fn(move |_| token())).origin(origin).unwrap()
}

fn endpoint(url: &str) -> tower_bearer::oauth2::TokenEndpointBuilder {
    TokenEndpoint::builder(url).client_id("me").client_secret(SECRET)
}

// ===== Servers =====

/// What came to a listener, of all connections together, and how many have ended.
#[derive(Clone)]
struct Received {
    bytes: Arc<Mutex<Vec<u8>>>,
    ended: watch::Receiver<usize>,
}

impl Received {
    async fn until_ended(&self, connections: usize) {
        let mut ended = self.ended.clone();
        within(ended.wait_for(|ended| *ended >= connections)).await.unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn has_secret(&self) -> bool {
        let text = self.text();
        [TOKEN, SECRET, BASIC].iter().any(|secret| text.contains(secret))
    }
}

/// Answers every request, over TLS if there is a certificate, and keeps all that it was sent.
async fn serve(tls: Option<TlsAcceptor>, answer: String) -> (SocketAddr, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = watch::channel(0);
    let received = Received { bytes: Arc::default(), ended };
    let bytes = Arc::clone(&received.bytes);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, bytes, end, answer) =
                (tls.clone(), Arc::clone(&bytes), end.clone(), answer.clone());
            tokio::spawn(async move {
                match tls {
                    None => talk(stream, &bytes, &answer).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            talk(stream, &bytes, &answer).await;
                        }
                    }
                }
                end.send_modify(|ended| *ended += 1);
            });
        }
    });
    (address, received)
}

async fn talk(
    mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin,
    bytes: &Mutex<Vec<u8>>,
    answer: &str,
) {
    let mut read = vec![0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut read).await {
        bytes.lock().unwrap().extend_from_slice(&read[..length]);
        if stream.write_all(answer.as_bytes()).await.is_err() {
            break;
        }
    }
}

fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

// ===== Certificates =====

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    fn server(&self, name: &str, expires: i32) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(expires, 1, 1);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_whose_certificate_is_unknown_expired_or_for_another_name() {
    let (trusted, stranger) = (Authority::new(), Authority::new());
    for (what, tls, is_good) in [
        ("a good one", trusted.server("localhost", 2999), true),
        ("an unknown authority", stranger.server("localhost", 2999), false),
        ("another name", trusted.server("api.example.com", 2999), false),
        ("an address in place of the name", trusted.server("127.0.0.1", 2999), false),
        ("expired", trusted.server("localhost", 2021), false),
    ] {
        let (address, received) = serve(Some(tls), ok(ANSWER)).await;
        let origin = format!("https://localhost:{}", address.port());

        // The client's secret, by the ready-made transport.
        let tokens = endpoint(&origin).root_certificate(trusted.pem()).build().unwrap();
        let fetched = within(tokens.fetch(TokenRequest::new(Reason::First))).await;
        assert_eq!(fetched.is_ok(), is_good, "{what}: {fetched:?}");

        // The token, by reqwest.
        let root = reqwest::Certificate::from_pem(trusted.pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([root]).no_proxy().build().unwrap();
        let stack = layer(&origin).layer(ReqwestService::new(client));
        let request = Request::get(&*origin).body(String::new()).unwrap();
        let called = within(stack.oneshot(request)).await;
        assert_eq!(called.is_ok(), is_good, "{what}: {:?}", called.err());

        // The same by hyper-util.
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusted.pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only();
        let client = Client::builder(TokioExecutor::new()).build(connector.enable_http1().build());
        let request = Request::get(&*origin).body(Full::<Bytes>::default()).unwrap();
        let called = within(layer(&origin).layer(client).oneshot(request)).await;
        assert_eq!(called.is_ok(), is_good, "{what}: {:?}", called.err());

        received.until_ended(3).await;
        assert_eq!(received.has_secret(), is_good, "{what}");
        assert_eq!(received.text().is_empty(), !is_good, "{what}: {}", received.text());
    }
}

#[tokio::test]
async fn a_server_without_tls_gets_no_byte_of_a_secret() {
    let trusted = Authority::new();
    let (address, received) = serve(None, ok(ANSWER)).await;
    let origin = format!("https://localhost:{}", address.port());
    let tokens = endpoint(&origin).root_certificate(trusted.pem()).build().unwrap();
    within(tokens.fetch(TokenRequest::new(Reason::First))).await.unwrap_err();
    let stack = layer(&origin).layer(ReqwestService::default());
    let request = Request::get(&*origin).body(String::new()).unwrap();
    within(stack.oneshot(request)).await.unwrap_err();
    received.until_ended(2).await;
    assert!(!received.has_secret() && !received.text().is_empty());
}

#[tokio::test]
async fn a_redirect_of_the_token_endpoint_carries_the_secret_nowhere() {
    for status in ["301 A", "302 A", "303 A", "307 A", "308 A"] {
        let (elsewhere, received) = serve(None, ok(ANSWER)).await;
        for target in [format!("http://{elsewhere}/token"), format!("//{elsewhere}/token")] {
            let head = format!("HTTP/1.1 {status}\r\nlocation: {target}\r\ncontent-length: 0");
            let (address, first) =
                serve(None, format!("{head}\r\nconnection: close\r\n\r\n")).await;
            let url = format!("http://{address}/token");
            let own = endpoint(&url).transport(ReqwestService::default()).build().unwrap();
            for tokens in [endpoint(&url).build().unwrap(), own] {
                within(tokens.fetch(TokenRequest::new(Reason::First))).await.unwrap_err();
            }
            first.until_ended(2).await;
            assert!(first.has_secret(), "it was asked");
        }
        assert_eq!((received.text().as_str(), *received.ended.borrow()), ("", 0), "{status}");
    }
}

// ===== How a URI is written =====

/// What a stack does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    /// Sends the token along.
    Sends,
    /// Refuses the request: nothing is sent.
    Refuses,
    /// Sends what the request has itself, without the token.
    Passes,
    /// There is no such URI.
    Cannot,
}

use Does::{Cannot, Passes, Refuses, Sends};

/// The origin that was named, the URI, and what a stack of the `http` crate's types does and one of
/// reqwest's, which normalizes a URL first.
const CASES: [(&str, &str, Does, Does); 46] = [
    ("https://api.example.com", "https://api.example.com/", Sends, Sends),
    // Paths, queries and fragments are nothing to an origin.
    ("https://api.example.com", "https://api.example.com", Sends, Sends),
    ("https://api.example.com", "https://api.example.com?https://evil.example", Sends, Sends),
    ("https://api.example.com", "https://evil.example/https://api.example.com/", Refuses, Refuses),
    ("https://api.example.com", "https://evil.example/?@api.example.com", Refuses, Refuses),
    ("https://api.example.com", "https://evil.example#@api.example.com", Refuses, Refuses),
    // Another scheme.
    ("https://api.example.com", "http://api.example.com/", Refuses, Refuses),
    ("https://api.example.com", "http://api.example.com:443/", Refuses, Refuses),
    ("https://api.example.com", "HTTPS://api.example.com/", Sends, Sends),
    ("https://api.example.com", "ftp://api.example.com/", Refuses, Refuses),
    // Another port.
    ("https://api.example.com", "https://api.example.com:443/", Sends, Sends),
    ("https://api.example.com", "https://api.example.com:8443/", Refuses, Refuses),
    ("https://api.example.com", "https://api.example.com:80/", Refuses, Refuses),
    ("https://api.example.com", "https://api.example.com:/", Sends, Sends),
    ("https://api.example.com", "https://api.example.com:0443/", Sends, Sends),
    ("https://api.example.com", "https://api.example.com:65979/", Refuses, Cannot),
    ("https://api.example.com:443", "https://api.example.com/", Sends, Sends),
    ("https://api.example.com:8443", "https://api.example.com:8443/", Sends, Sends),
    ("https://api.example.com:8443", "https://api.example.com/", Refuses, Refuses),
    // User info: hyper drops it, reqwest makes an `Authorization` of it, which is the user's own.
    ("https://api.example.com", "https://u:p@api.example.com/", Sends, Passes),
    ("https://api.example.com", "https://evil.example@api.example.com/", Sends, Passes),
    ("https://api.example.com", "https://api.example.com@evil.example/", Refuses, Passes),
    ("https://api.example.com", "https://api.example.com:443@evil.example/", Refuses, Passes),
    // Names that are nearly the same.
    ("https://api.example.com", "https://API.Example.COM/", Sends, Sends),
    ("https://API.Example.COM", "https://api.example.com/", Sends, Sends),
    ("https://api.example.com", "https://api.example.com./", Refuses, Refuses),
    ("https://api.example.com", "https://api.example.com.evil.example/", Refuses, Refuses),
    ("https://api.example.com", "https://xapi.example.com/", Refuses, Refuses),
    ("https://api.example.com", "https://example.com/", Refuses, Refuses),
    ("https://api.example.com", "https://api.example.com%2eevil.example/", Cannot, Refuses),
    ("https://api.example.com", "https://api.example.com\\@evil.example/", Cannot, Sends),
    // IPv6 in every spelling.
    ("https://[2001:db8::1]", "https://[2001:db8::1]/", Sends, Sends),
    ("https://[2001:db8::1]", "https://[2001:0DB8:0:0:0:0:0:1]:443/", Sends, Sends),
    ("https://[2001:0db8:0000:0000::0001]", "https://[2001:db8::1]/", Sends, Sends),
    ("https://[::ffff:192.0.2.1]", "https://[::ffff:c000:201]/", Sends, Sends),
    ("https://192.0.2.1", "https://[::ffff:192.0.2.1]/", Refuses, Refuses),
    ("https://[2001:db8::1]", "https://[2001:db8::2]/", Refuses, Refuses),
    ("https://[2001:db8::1]", "https://[2001:db8::1%25eth0]/", Refuses, Cannot),
    // IPv4, which reqwest reads in the old spellings too.
    ("https://192.0.2.1", "https://192.0.2.1/", Sends, Sends),
    ("https://192.0.2.1", "https://3221225985/", Refuses, Sends),
    ("https://192.0.2.1", "https://0300.0.2.1/", Refuses, Sends),
    ("https://192.0.2.1", "https://192.0.2.10/", Refuses, Refuses),
    // Names with other letters than those of ASCII.
    ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example/", Sends, Sends),
    ("https://xn--bcher-kva.example", "https://b\u{fc}cher.example/", Cannot, Sends),
    ("https://xn--bcher-kva.example", "https://B\u{dc}CHER.example/", Cannot, Sends),
    ("https://bucher.example", "https://b\u{fc}cher.example/", Cannot, Refuses),
];

/// By a stack whose innermost service says what it would have sent.
async fn by_tower(origin: &str, uri: &str) -> Does {
    let api = service_fn(async |request: Request<String>| {
        Ok::<_, BoxError>(Response::new(carries(request.headers().get("authorization"))))
    });
    // A `Host` that says otherwise changes nothing.
    let Ok(request) = Request::get(uri).header("host", "api.example.com").body(String::new())
    else {
        return Cannot;
    };
    let answer = within(layer(origin).layer(api).oneshot(request)).await;
    answer.map_or(Refuses, Response::into_body)
}

fn carries(header: Option<&http::HeaderValue>) -> Does {
    let is_token = header.is_some_and(|header| header == &format!("Bearer {TOKEN}"));
    if is_token { Sends } else { Passes }
}

/// Says what it would have sent.
struct Innermost(Arc<Mutex<Option<Does>>>);

#[async_trait]
impl Middleware for Innermost {
    async fn handle(
        &self,
        request: reqwest::Request,
        _: &mut Extensions,
        _: Next<'_>,
    ) -> Result<reqwest::Response, Error> {
        *self.0.lock().unwrap() = Some(carries(request.headers().get("authorization")));
        Ok(Response::new("").into())
    }
}

async fn by_reqwest(origin: &str, uri: &str) -> Does {
    let sent = Arc::new(Mutex::new(None));
    let client = ClientBuilder::new(reqwest::Client::new())
        .with(BearerAuthMiddleware::from(layer(origin)))
        .with(Innermost(sent.clone()))
        .build();
    match within(client.get(uri).header("host", "api.example.com").send()).await {
        Ok(_) => sent.lock().unwrap().expect("it was called"),
        Err(Error::Reqwest(error)) if error.is_builder() => Cannot,
        Err(_) => Refuses,
    }
}

#[tokio::test]
async fn however_a_uri_is_written_the_token_goes_to_the_named_origin_alone() {
    let mut wrong = Vec::new();
    for (origin, uri, tower, reqwest) in CASES {
        let found = (by_tower(origin, uri).await, by_reqwest(origin, uri).await);
        if found != (tower, reqwest) {
            wrong.push(format!("{origin} {uri}: {found:?}, not {:?}", (tower, reqwest)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_origin_is_named_in_ascii() {
    for origin in ["https://b\u{fc}cher.example", "https://[fe80::1%25eth0]", "https://u@a.example"]
    {
        assert!(origin.parse::<tower_bearer::Origin>().is_err(), "{origin}");
    }
}

// ===== Proxies =====

const ORIGIN: &str = "DESTINATIONS_TEST_ORIGIN";

/// Runs in a process of its own, with a proxy in its environment.
#[tokio::test]
#[ignore = "the test below runs it"]
async fn child() {
    let Ok(origin) = std::env::var(ORIGIN) else { return };
    let tokens = endpoint(&origin).timeout(Duration::from_secs(5)).build().unwrap();
    drop(within(tokens.fetch(TokenRequest::new(Reason::First))).await);
    let stack = layer(&origin).layer(ReqwestService::default());
    let request = Request::get(&*origin).body(String::new()).unwrap();
    drop(within(stack.oneshot(request)).await);
}

#[tokio::test]
async fn a_proxy_of_the_environment_reads_no_secret() {
    let (proxy, by_proxy) = serve(None, ok(ANSWER)).await;
    let (own, direct) = serve(None, ok(ANSWER)).await;
    // A tunnel for TLS, and this machine without one.
    for origin in ["https://auth.example.com".to_owned(), format!("http://{own}")] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--ignored"]).env(ORIGIN, &origin);
        for name in ["http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env(name, format!("http://{proxy}"));
        }
        for name in ["NO_PROXY", "no_proxy", "REQUEST_METHOD"] {
            command.env_remove(name);
        }
        let child = tokio::task::spawn_blocking(move || command.output().unwrap());
        let child = within(child).await.unwrap();
        assert!(child.status.success(), "{child:?}");
    }
    let text = by_proxy.text();
    assert!(text.contains("CONNECT auth.example.com:443"), "the proxy was used: {text}");
    assert!(!by_proxy.has_secret(), "{text}");
    assert!(direct.has_secret(), "without a proxy it gets there");
}

#[tokio::test]
async fn a_proxy_of_the_builder_reads_no_secret() {
    let (proxy, by_proxy) = serve(None, ok(ANSWER)).await;
    let url = "https://auth.example.com/token";
    let tokens = endpoint(url).proxy(format!("http://{proxy}")).build().unwrap();
    within(tokens.fetch(TokenRequest::new(Reason::First))).await.unwrap_err();
    by_proxy.until_ended(1).await;
    assert!(by_proxy.text().starts_with("CONNECT auth.example.com:443"), "{}", by_proxy.text());
    assert!(!by_proxy.has_secret(), "{}", by_proxy.text());
}
