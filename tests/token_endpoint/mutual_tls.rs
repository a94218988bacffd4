//! A token service over TLS that asks for the client's certificate, and authorities for such.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer,
        server::WebPkiClientVerifier,
    },
    server::TlsStream,
};

use super::support::OK;

/// A certificate authority for clients or for a server.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A client's certificate and key in PEM, and the certificate as it is on the wire.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) der: Vec<u8>,
}

/// A request, and over which connection it came.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) connection: usize,
    pub(crate) peer: Vec<u8>,
    /// How many certificates the client has shown.
    pub(crate) chain: usize,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Answers each `POST` with a token, and each `GET` with what was published.
pub(crate) struct Server {
    origin: String,
    authority: Authority,
    shared: Arc<Shared>,
}

struct Shared {
    calls: Mutex<Vec<Call>>,
    published: Mutex<String>,
    /// The connections that are open, and how many calls there were.
    state: watch::Sender<(BTreeSet<usize>, usize)>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    pub(crate) fn client(&self, name: &str) -> Client {
        self.client_with(&KeyPair::generate().unwrap(), |params| {
            params.distinguished_name.push(DnType::CommonName, name);
        })
    }

    pub(crate) fn client_with(
        &self,
        key: &KeyPair,
        adjust: impl FnOnce(&mut CertificateParams),
    ) -> Client {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        adjust(&mut params);
        let certificate = params.signed_by(key, &self.0).unwrap();
        Client {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().to_vec(),
        }
    }
}

impl Client {
    /// Looks for every line of the key.
    pub(crate) fn assert_hidden(&self, text: &str) {
        for line in self.key.lines().filter(|line| !line.starts_with('-')) {
            assert!(!text.contains(line), "the key is shown: {text}");
        }
    }
}

impl Server {
    pub(crate) async fn start(clients: &Authority) -> Self {
        let authority = Authority::new();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority.0).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(clients.0.as_ref().der().clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("https://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            calls: Mutex::default(),
            published: Mutex::default(),
            state: watch::Sender::default(),
        });
        tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), Arc::clone(&shared)));
        Self { origin, authority, shared }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// The certificate of the server's authority.
    pub(crate) fn authority(&self) -> String {
        self.authority.pem()
    }

    pub(crate) fn publish(&self, metadata: &str) {
        metadata.clone_into(&mut self.shared.published.lock().unwrap());
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// The connections that are open, by number.
    pub(crate) fn open(&self) -> Vec<usize> {
        self.shared.state.borrow().0.iter().copied().collect()
    }

    /// Waits until just those are open.
    pub(crate) async fn has_open(&self, expected: &[usize]) {
        let mut state = self.shared.state.subscribe();
        state.wait_for(|(open, _)| open.iter().eq(expected)).await.unwrap();
    }

    /// Waits until there were this many calls.
    pub(crate) async fn has_seen(&self, calls: usize) {
        let mut state = self.shared.state.subscribe();
        state.wait_for(|(_, seen)| *seen >= calls).await.unwrap();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let mut connection = 0;
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (accepting, shared) = (acceptor.accept(stream), Arc::clone(&shared));
        let number = connection;
        connection += 1;
        tokio::spawn(async move {
            let Ok(stream) = accepting.await else { return };
            shared.state.send_modify(|(open, _)| open.extend([number]));
            serve(stream, number, &shared).await;
            shared.state.send_modify(|(open, _)| open.retain(|open| *open != number));
        });
    }
}

/// Serves one connection until the client closes it.
async fn serve(mut stream: TlsStream<tokio::net::TcpStream>, connection: usize, shared: &Shared) {
    let shown = stream.get_ref().1.peer_certificates().unwrap();
    let (peer, chain) = (shown[0].to_vec(), shown.len());
    let mut read = Vec::new();
    while let Some((head, body)) = request(&mut stream, &mut read).await {
        let answer = if head.starts_with("GET ") {
            shared.published.lock().unwrap().clone()
        } else {
            OK.to_owned()
        };
        let peer = peer.clone();
        shared.calls.lock().unwrap().push(Call { connection, peer, chain, head, body });
        let length = answer.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{answer}");
        if stream.write_all(answer.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        shared.state.send_modify(|(_, calls)| *calls += 1);
    }
}

/// The next request; `None` once the connection has ended.
async fn request(
    stream: &mut TlsStream<tokio::net::TcpStream>,
    read: &mut Vec<u8>,
) -> Option<(String, String)> {
    loop {
        let text = String::from_utf8_lossy(read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() == length.map_or(0, |length| length.parse().unwrap()) {
                read.clear();
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}
