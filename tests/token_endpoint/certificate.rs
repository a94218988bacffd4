//! A client certificate, shown to a server that asks for one.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::future::join_all;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, date_time_ymd};
use tempfile::TempDir;
use tower_bearer::{
    AccessToken, BoxError, Secret, TokenCache, TokenError, TokenSource,
    oauth2::{EndpointErrorKind as Kind, TokenEndpoint, TokenEndpointBuilder},
};

use super::{
    mutual_tls::{Authority, Client, Server},
    support::{Scripted, cause, fetch, kind, shown},
};

const BOUND: Duration = Duration::from_secs(30);

fn endpoint(server: &Server) -> TokenEndpointBuilder {
    TokenEndpoint::builder(server.url("/token"))
        .client_id("my-app")
        .root_certificate(server.authority())
}

fn showing(server: &Server, client: &Client) -> TokenEndpointBuilder {
    endpoint(server).client_certificate(client.certificate.as_str(), client.key.as_str())
}

async fn bounded(builder: TokenEndpointBuilder) -> Result<AccessToken, TokenError> {
    let endpoint = builder.build().unwrap();
    tokio::time::timeout(BOUND, fetch(&endpoint)).await.expect("bounded")
}

/// The files that a client is told of, and that are replaced.
struct Files {
    dir: TempDir,
}

impl Files {
    fn of(client: &Client) -> Self {
        let files = Self { dir: TempDir::new().unwrap() };
        files.write(&client.certificate, &client.key);
        files
    }

    fn certificate(&self) -> PathBuf {
        self.dir.path().join("client.pem")
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("client.key")
    }

    fn write(&self, certificate: &str, key: &str) {
        replace(&self.certificate(), certificate);
        replace(&self.key(), key);
    }

    fn shown(&self, builder: TokenEndpointBuilder) -> TokenEndpointBuilder {
        builder.client_certificate(Secret::file(self.certificate()), Secret::file(self.key()))
    }
}

/// Renames a new file over the old one.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

// ===== Who the client is =====

#[tokio::test]
async fn the_certificate_says_who_the_client_is_and_only_the_id_is_sent() {
    let clients = Authority::new();
    let (server, client) = (Server::start(&clients).await, clients.client("my-app"));
    let token = bounded(showing(&server, &client)).await.unwrap();
    assert_eq!(token.secret(), "at-1");
    let calls = server.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].peer, client.der);
    assert_eq!(calls[0].body, "grant_type=client_credentials&client_id=my-app");
    assert!(!calls[0].head.to_lowercase().contains("authorization"), "{}", calls[0].head);
}

#[tokio::test]
async fn a_secret_goes_beside_the_certificate() {
    let clients = Authority::new();
    let (server, client) = (Server::start(&clients).await, clients.client("my-app"));
    bounded(showing(&server, &client).client_secret("hush-hush")).await.unwrap();
    let calls = server.calls();
    assert_eq!(
        (&calls[0].peer, calls[0].body.as_str()),
        (&client.der, "grant_type=client_credentials")
    );
    assert!(calls[0].head.contains("Basic bXktYXBwOmh1c2gtaHVzaA=="), "{}", calls[0].head);
}

#[tokio::test]
async fn a_proxy_tunnels_the_certificate() {
    let clients = Authority::new();
    let (server, client) = (Server::start(&clients).await, clients.client("my-app"));
    let (proxy, heads) = super::ready_made::proxy().await;
    bounded(showing(&server, &client).proxy(format!("http://{proxy}"))).await.unwrap();
    assert_eq!(server.calls()[0].peer, client.der);
    assert_eq!(heads.lock().unwrap().len(), 1, "it went by the proxy");
}

#[tokio::test]
async fn one_text_may_hold_the_certificates_and_the_key() {
    let clients = Authority::new();
    let (server, client) = (Server::start(&clients).await, clients.client("my-app"));
    let both = format!("{}\n{}\n{}", client.key, client.certificate, clients.pem());
    bounded(endpoint(&server).client_certificate(both.as_str(), both.as_str())).await.unwrap();
    assert_eq!(server.calls()[0].chain, 2, "each certificate once");
}

#[tokio::test]
async fn every_usual_kind_of_key_is_taken() {
    let clients = Authority::new();
    let server = Server::start(&clients).await;
    for (algorithm, label) in
        [(&PKCS_ECDSA_P256_SHA256, "EC PRIVATE KEY"), (&PKCS_RSA_SHA256, "RSA PRIVATE KEY")]
    {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let client = clients.client_with(&key, |_| {});
        bounded(showing(&server, &client)).await.unwrap();
        // PKCS #8 is an envelope around the older form.
        let inner = BASE64_STANDARD.encode(unwrapped(&key.serialize_der()));
        let old = format!("-----BEGIN {label}-----\n{inner}\n-----END {label}-----\n");
        bounded(showing(&server, &Client { key: old, ..client })).await.unwrap();
    }
    assert_eq!(server.calls().len(), 4);
}

/// The octets in a PKCS #8 structure (RFC 5208 §5).
fn unwrapped(der: &[u8]) -> Vec<u8> {
    let (_, outer, _) = element(der);
    let (_, _, rest) = element(outer);
    let (_, _, rest) = element(rest);
    let (tag, octets, _) = element(rest);
    assert_eq!(tag, 4);
    octets.to_vec()
}

fn element(der: &[u8]) -> (u8, &[u8], &[u8]) {
    let digits = usize::from(der[1]).saturating_sub(0x80);
    let length = match digits {
        0 => usize::from(der[1]),
        _ => der[2..2 + digits].iter().fold(0, |length, digit| length << 8 | usize::from(*digit)),
    };
    let start = 2 + digits;
    (der[0], &der[start..start + length], &der[start + length..])
}

#[tokio::test]
async fn another_authoritys_certificate_is_refused_and_so_is_none() {
    let clients = Authority::new();
    let server = Server::start(&clients).await;
    let stranger = Authority::new().client("my-app");
    let error = bounded(showing(&server, &stranger)).await.unwrap_err();
    assert!(matches!(kind(&error), Kind::Interrupted | Kind::Unreachable), "{error:?}");
    assert!(error.is_transient() && error.to_string().contains("alert"), "{error}");
    stranger.assert_hidden(&shown(&error));
    let error = bounded(endpoint(&server).client_secret("hush-hush")).await.unwrap_err();
    assert!(error.to_string().contains("alert"), "{error}");
    assert!(server.calls().is_empty());
}

#[tokio::test]
async fn the_servers_own_authority_has_to_be_trusted_as_ever() {
    let clients = Authority::new();
    let (server, client) = (Server::start(&clients).await, clients.client("my-app"));
    let builder = TokenEndpoint::builder(server.url("/token")).client_id("my-app");
    let builder = builder.client_certificate(client.certificate.as_str(), client.key.as_str());
    assert_eq!(kind(&bounded(builder).await.unwrap_err()), &Kind::Unreachable);
}

// ===== Another one =====

#[tokio::test]
async fn a_certificate_that_changes_is_shown_at_the_next_fetch_and_the_old_connection_closes() {
    let clients = Authority::new();
    let server = Server::start(&clients).await;
    let (old, new) = (clients.client("old"), clients.client("new"));
    let files = Files::of(&old);
    let endpoint = files.shown(endpoint(&server)).build().unwrap();
    for _ in 0..3 {
        fetch(&endpoint).await.unwrap();
    }
    assert_eq!(server.open(), [0], "one client keeps one connection");
    files.write(&new.certificate, &new.key);
    fetch(&endpoint).await.unwrap();
    tokio::time::timeout(BOUND, server.has_open(&[1])).await.expect("the old one is closed");
    fetch(&endpoint).await.unwrap();
    let shown: Vec<_> =
        server.calls().into_iter().map(|call| (call.connection, call.peer)).collect();
    let expected = [(0, &old), (0, &old), (0, &old), (1, &new), (1, &new)];
    assert_eq!(shown, expected.map(|(connection, client)| (connection, client.der.clone())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fetch_fails_while_certificates_are_replaced_under_load() {
    let clients = Authority::new();
    let server = Server::start(&clients).await;
    let all: Vec<_> = (0..5).map(|n| clients.client(&format!("client-{n}"))).collect();
    let path = TempDir::new().unwrap().keep().join("both.pem");
    let both = |client: &Client| format!("{}\n{}", client.certificate, client.key);
    replace(&path, &both(&all[0]));
    let builder = endpoint(&server).client_certificate(Secret::file(&path), Secret::file(&path));
    let endpoint = builder.build().unwrap();

    let rotating = async {
        for (nth, client) in all.iter().enumerate().skip(1) {
            server.has_seen(100 * nth).await;
            replace(&path, &both(client));
        }
        server.has_seen(100 * all.len()).await;
    };
    let fetching = async {
        loop {
            for outcome in join_all((0..8).map(|_| fetch(&endpoint))).await {
                outcome.unwrap();
            }
        }
    };
    let ended = async {
        tokio::select! {
            () = rotating => {}
            () = fetching => {}
        }
    };
    tokio::time::timeout(BOUND, ended).await.expect("bounded");
    let calls = server.calls();
    for client in &all {
        assert!(calls.iter().any(|call| call.peer == client.der), "each was shown");
    }
    // Only the last one may follow the last one: what has been replaced never comes back.
    let first_last = calls.iter().position(|call| call.peer == all[4].der).unwrap();
    let late = calls[first_last + 16..].iter().filter(|call| call.peer != all[4].der);
    assert_eq!(late.count(), 0);
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

// ===== Bad input =====

/// The error of a fetch that sends nothing.
async fn unusable(certificate: &str, key: &str) -> TokenError {
    let clients = Authority::new();
    let server = Server::start(&clients).await;
    let files = Files::of(&clients.client("my-app"));
    files.write(certificate, key);
    let error = bounded(files.shown(endpoint(&server))).await.unwrap_err();
    assert!(server.calls().is_empty() && server.open().is_empty(), "nothing was sent");
    let text = error.to_string();
    assert!(text.contains("client.pem") || text.contains("client.key"), "{text}");
    error
}

#[tokio::test]
async fn an_unusable_certificate_or_key_is_an_error_with_the_reason_and_without_the_key() {
    let clients = Authority::new();
    let client = clients.client("my-app");
    let (certificate, key) = (client.certificate.as_str(), client.key.as_str());
    let other = clients.client("other");
    let key_of_this_test = KeyPair::generate().unwrap();
    let expired = clients.client_with(&key_of_this_test, |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    let old = key.replace("-\n", "-\nProc-Type: 4,ENCRYPTED\n").replace("PRIV", "EC PRIV");
    let damaged = certificate.replacen("MII", "MIA", 1);
    for (certificate, key, may_pass, expected) in [
        (certificate, &*encrypted, false, "encrypted"),
        (certificate, &*old, false, "encrypted"),
        (certificate, other.key.as_str(), true, "belongs to another certificate"),
        (&*damaged, key, true, "is damaged"),
        (&certificate[..certificate.len() / 2], key, true, "half-written"),
        (certificate, &key[..key.len() / 2], true, "half-written"),
        (key, key, false, "no PEM certificate"),
        (certificate, certificate, false, "no private key in PEM"),
        (certificate, &*format!("{key}\n{}", other.key), false, "more than one"),
        (expired.certificate.as_str(), expired.key.as_str(), false, "has expired"),
    ] {
        let error = unusable(certificate, key).await;
        let Kind::ClientCertificate(problem) = kind(&error) else { panic!("{error:?}") };
        assert!(problem.contains(expected), "{expected}: {problem}");
        assert!(error.to_string().contains("`client_certificate`"), "{error}");
        assert_eq!(error.is_transient(), may_pass, "{error}");
        for client in [&client, &other, &expired] {
            client.assert_hidden(&shown(&error));
        }
    }
    for (certificate, key) in [("", key), (certificate, "")] {
        let error = unusable(certificate, key).await;
        assert_eq!(kind(&error), &Kind::Credential);
        assert!(error.to_string().contains("is empty"), "{error}");
    }
}

#[tokio::test]
async fn a_half_written_file_costs_no_token_and_a_repaired_one_is_used() {
    let clients = Authority::new();
    let (server, client) = (Server::start(&clients).await, clients.client("my-app"));
    let files = Files::of(&client);
    let cache = TokenCache::new(files.shown(endpoint(&server)).build().unwrap());
    let token = cache.get().await.unwrap();
    files.write(&client.certificate, &client.key[..100]);
    cache.reject(tower_bearer::Rejection::new(token));
    let suspect = tokio::time::timeout(BOUND, cache.get()).await.expect("bounded").unwrap();
    assert_eq!(suspect.secret(), "at-1");
    assert_eq!(server.calls().len(), 1);

    // An endpoint knows of what was mended before its pause is over.
    files.write(&client.certificate, "/etc/tls/client.key");
    let endpoint = files.shown(endpoint(&server)).build().unwrap();
    assert!(!fetch(&endpoint).await.unwrap_err().is_transient());
    assert!(!endpoint.recovered().await);
    files.write(&client.certificate, &client.key);
    assert!(endpoint.recovered().await);
    fetch(&endpoint).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_replaced_after_its_certificate_was_read_is_read_again_with_it() {
    let clients = Authority::new();
    let server = Server::start(&clients).await;
    let (old, new) = (clients.client("old"), clients.client("new"));
    let certificates = std::sync::Mutex::new(vec![new.certificate.clone(), old.certificate]);
    let certificate = Secret::from_fn(move || {
        let next = certificates.lock().unwrap().pop();
        async { next.ok_or(BoxError::from("only two")) }
    });
    let builder = endpoint(&server).client_certificate(certificate, new.key.as_str());
    bounded(builder).await.unwrap();
    assert_eq!(server.calls()[0].peer, new.der);
}

#[test]
fn what_is_wrong_with_a_fixed_certificate_is_an_error_of_the_builder() {
    let client = Authority::new().client("my-app");
    let (certificate, key) = (client.certificate.as_str(), client.key.as_str());
    let builder = || TokenEndpoint::builder("https://auth.example.com/token").client_id("my-app");
    let other = Authority::new().client("other");
    let given = || builder().client_certificate(certificate, key);
    given().build().unwrap();
    for (builder, expected) in [
        (builder().client_certificate("/etc/client.pem", "/etc/client.key"), "no PEM certificate"),
        (builder().client_certificate(certificate, "/etc/client.key"), "no private key in PEM"),
        (builder().client_certificate(certificate, other.key.as_str()), "belongs to another"),
        (given().url("http://127.0.0.1/token"), "never presented"),
        (given().transport(Scripted::default()), "a setting of the ready-made transport"),
    ] {
        let error = builder.build().unwrap_err();
        client.assert_hidden(&format!("{error} {error:?}"));
        let text = error.to_string();
        assert!(text.contains("`client_certificate`") && text.contains(expected), "{text}");
    }
    let anonymous = TokenEndpoint::builder("https://auth.example.com/token");
    let error = anonymous.client_certificate(certificate, key).build().unwrap_err();
    assert!(error.to_string().contains("`client_id` is missing"), "{error}");
    client.assert_hidden(&format!("{:?} {:?}", given(), given().build().unwrap()));
}

// ===== An issuer =====

#[tokio::test]
async fn with_a_certificate_the_alias_for_certificates_is_used() {
    let clients = Authority::new();
    let (server, client) = (Server::start(&clients).await, clients.client("my-app"));
    server.publish(&format!(
        r#"{{"issuer":"{}","token_endpoint":"{}","mtls_endpoint_aliases":{{"token_endpoint":"{}"}},
            "token_endpoint_auth_methods_supported":["tls_client_auth"]}}"#,
        server.url(""),
        server.url("/plain"),
        server.url("/mtls"),
    ));
    let builder = TokenEndpoint::discover(server.url("")).client_id("my-app");
    let builder = builder.root_certificate(server.authority());
    let builder = builder.client_certificate(client.certificate.as_str(), client.key.as_str());
    bounded(builder).await.unwrap();
    let calls = server.calls();
    let lines: Vec<_> = calls.iter().map(|call| call.head.lines().next().unwrap()).collect();
    let expected = ["GET /.well-known/oauth-authorization-server HTTP/1.1", "POST /mtls HTTP/1.1"];
    assert_eq!(lines, expected);
    assert_eq!(calls[1].body, "grant_type=client_credentials&client_id=my-app");
    assert_eq!(calls[0].connection, calls[1].connection);
}

#[tokio::test]
async fn the_metadata_are_read_with_the_certificate_of_the_fetch() {
    let clients = Authority::new();
    let (server, client) = (Server::start(&clients).await, clients.client("my-app"));
    let files = Files::of(&client);
    files.write(&client.certificate, "half");
    let builder = TokenEndpoint::discover(server.url("")).client_id("my-app");
    let endpoint = files.shown(builder.root_certificate(server.authority())).build().unwrap();
    let error = fetch(&endpoint).await.unwrap_err();
    assert!(matches!(kind(&error), Kind::ClientCertificate(_)), "{error:?}");
    assert!(cause(&error).is_about_metadata() && !error.is_transient());
    assert!(error.to_string().contains("client.key"), "{error}");
    files.write(&client.certificate, &client.key);
    server.publish(&format!(
        r#"{{"issuer":"{}","token_endpoint":"{}"}}"#,
        server.url(""),
        server.url("/token"),
    ));
    fetch(&endpoint).await.unwrap();
    assert_eq!(server.calls().iter().filter(|call| call.peer == client.der).count(), 2);
}
