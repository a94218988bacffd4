//! A `redis-server` of the test's own, if there is one.
#![allow(dead_code, reason = "who includes it needs some of it")]

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Stdio,
    sync::Once,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::timeout,
};

/// With this variable a missing server is a failure.
const REQUIRED: &str = "TOWER_BEARER_REDIS";
const BOUND: Duration = Duration::from_secs(30);

/// A server on loopback, which ends with its handle.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    arguments: Vec<String>,
    child: Child,
}

impl Server {
    /// Starts one that keeps nothing on the disk. `None`: this machine has none, which is told once.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// The same with more arguments.
    pub(crate) async fn start_with(arguments: &[&str]) -> Option<Self> {
        if !is_here() {
            return None;
        }
        let arguments: Vec<String> = arguments.iter().map(|&it| it.to_owned()).collect();
        // Another program may take the port before the server does.
        for _ in 0..20 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            drop(listener);
            if let Some(child) = spawn(address, &arguments).await {
                return Some(Self { address, arguments, child });
            }
        }
        panic!("no server starts");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Ends it, with all that it has.
    pub(crate) async fn stop(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it again, at the same address and with nothing in it.
    pub(crate) async fn start_again(&mut self) {
        self.child = spawn(self.address, &self.arguments).await.expect("its port is free");
    }

    pub(crate) async fn flush_all(&self) {
        assert_eq!(command(self.address, &[b"FLUSHALL"]).await, "+OK");
    }
}

fn is_here() -> bool {
    static TOLD: Once = Once::new();
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let is_here = std::env::split_paths(&paths).any(|path| path.join("redis-server").is_file());
    if !is_here {
        assert!(
            std::env::var_os(REQUIRED).is_none(),
            "{REQUIRED} is set, and no redis-server here"
        );
        TOLD.call_once(|| {
            // Not by a macro: the harness would keep it to itself.
            let told = "no redis-server here (Debian: apt-get install redis-server): not tested\n";
            std::io::stderr().write_all(told.as_bytes()).unwrap();
        });
    }
    is_here
}

/// `None`: it has ended at once.
async fn spawn(address: SocketAddr, arguments: &[String]) -> Option<Child> {
    let is_tls = arguments.iter().any(|it| it == "--tls-cert-file");
    let port = address.port().to_string();
    let ports = if is_tls {
        ["--port", "0", "--tls-port", &port]
    } else {
        ["--tls-port", "0", "--port", &port]
    };
    let mut child = Command::new("redis-server")
        .args(ports)
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("Ready to accept connections") {
                return true;
            }
        }
        false
    };
    if !timeout(BOUND, ready).await.expect("it starts in time") {
        return None;
    }
    // It must not find its output closed.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Some(child)
}

/// Sends a command, and returns the first line of the answer.
pub(crate) async fn command(address: SocketAddr, words: &[&[u8]]) -> String {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    let mut connection = BufReader::new(TcpStream::connect(address).await.unwrap());
    connection.write_all(&bytes).await.unwrap();
    let mut line = String::new();
    timeout(BOUND, connection.read_line(&mut line)).await.expect("in time").unwrap();
    line.trim_end().to_owned()
}

/// Makes a certificate for this machine and its authority; the arguments that a server needs, and
/// the authority's certificate.
pub(crate) fn certificates(directory: &Path) -> (Vec<String>, String) {
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, key);
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = server.signed_by(&key, &issuer).unwrap().pem();
    let files = [("--tls-cert-file", certificate), ("--tls-key-file", key.serialize_pem())];
    let mut arguments: Vec<String> = ["--tls-auth-clients", "no"].map(str::to_owned).to_vec();
    for (option, pem) in files.into_iter().chain([("--tls-ca-cert-file", root.clone())]) {
        let path = directory.join(format!("{}.pem", option.trim_start_matches('-')));
        std::fs::write(&path, pem).unwrap();
        arguments.extend([option.to_owned(), path.to_string_lossy().into_owned()]);
    }
    (arguments, root)
}

// ===== On the way =====

/// What stands between a client and a server.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    mode: tokio::sync::watch::Sender<Mode>,
    connections: tokio::sync::watch::Receiver<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// Answers come so much later.
    Delay(Duration),
    /// Answers wait for another mode.
    Hold,
    /// The connection ends in the place of an answer.
    Cut,
}

impl Proxy {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, modes) = tokio::sync::watch::channel(Mode::Pass);
        let (count, connections) = tokio::sync::watch::channel(0);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                count.send_modify(|count| *count += 1);
                tokio::spawn(forward(client, server, modes.clone()));
            }
        });
        Self { address, mode, connections }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> u32 {
        *self.connections.borrow()
    }
}

async fn forward(
    client: TcpStream,
    server: SocketAddr,
    mut modes: tokio::sync::watch::Receiver<Mode>,
) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asks = tokio::io::copy(&mut from_client, &mut to_server);
    let answers = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from_server.read(&mut buffer).await.unwrap_or(0);
            let mode = modes.wait_for(|mode| *mode != Mode::Hold).await.map(|mode| *mode);
            if let Ok(Mode::Delay(delay)) = mode {
                tokio::time::sleep(delay).await;
            }
            let is_cut = read == 0 || matches!(mode, Ok(Mode::Cut) | Err(_));
            if is_cut || to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { _ = asks => {}, () = answers => {} }
}
