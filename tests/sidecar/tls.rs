//! Over TLS and HTTP/2, with a certificate that the sidecar trusts, and with one that it does
//! not.

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rcgen::CertifiedKey;
use tempfile::TempPath;
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer},
};

use crate::support::{Sidecar, Tokens, get, guarded};

/// Serves for the name `localhost`; the certificate, in a file.
async fn serve_tls(router: Router) -> (SocketAddr, TempPath) {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
    let file = tempfile::NamedTempFile::new().expect("there is room").into_temp_path();
    std::fs::write(&file, cert.pem()).expect("there is room");
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .expect("the key is the certificate's");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    let address = listener.local_addr().expect("it has an address");
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let Ok(connection) = acceptor.accept(connection).await else { return };
                let server = auto::Builder::new(TokioExecutor::new());
                let service = TowerToHyperService::new(router);
                drop(server.serve_connection(TokioIo::new(connection), service).await);
            });
        }
    });
    (address, file)
}

fn config(tokens: &Tokens, api: SocketAddr) -> String {
    format!(
        "listen = \"127.0.0.1:0\"\n{}\n[upstreams.api]\npath = \"/api\"\n\
         to = \"https://localhost:{}\"\nsource = \"local\"\n",
        tokens.source(),
        api.port()
    )
}

#[tokio::test]
async fn a_plain_request_goes_on_over_tls_and_is_sent_again_after_a_revocation() {
    let tokens = Tokens::start().await;
    let version = async |request: axum::extract::Request| format!("{:?}", request.version());
    let (api, certificate) = serve_tls(guarded(&tokens, Router::new().fallback(version))).await;
    let trusted = [("SSL_CERT_FILE", certificate.to_str().expect("it is text"))];
    let sidecar = Sidecar::start_with(&config(&tokens, api), &[], &trusted).await;
    for issued in [1, 2] {
        let (status, version) = get(&sidecar.url("/api")).await;
        assert_eq!((status.as_u16(), version.as_str()), (200, "HTTP/2.0"));
        assert_eq!(tokens.issued(), issued);
        tokens.revoke_all();
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_gets_no_request() {
    let tokens = Tokens::start().await;
    let (api, _its_own) = serve_tls(Router::new().fallback(async || "reached")).await;
    let (_, another) = serve_tls(Router::new()).await;
    let trusted = [("SSL_CERT_FILE", another.to_str().expect("it is text"))];
    let sidecar = Sidecar::start_with(&config(&tokens, api), &[], &trusted).await;
    let (status, said) = get(&sidecar.url("/api")).await;
    assert!(status == 502 && said.contains("certificate"), "{status} {said}");
}

#[tokio::test]
async fn an_upstream_that_never_begins_with_tls_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    let api = listener.local_addr().expect("it has an address");
    // Accepts, and says nothing.
    let silent = tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            connections.push(connection);
        }
    });
    let tokens = Tokens::start().await;
    let sidecar = Sidecar::start(&format!("connect_seconds = 1\n{}", config(&tokens, api))).await;
    let (status, said) = get(&sidecar.url("/api")).await;
    assert!(status == 502 && said.contains("no connection within 1 s"), "{status} {said}");
    silent.abort();
}
