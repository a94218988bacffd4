//! A listener without TLS, where an `https` origin points to: what it gets, anybody on the way
//! could read.

use std::net::SocketAddr;

use http::Request;
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tonic::{body::Body, transport::Channel};
use tower::{Layer, ServiceExt};
use tower_bearer::{AccessToken, BearerAuthLayer, ReplayBody, TokenError, from_fn};

use crate::{
    loopback::grpc::GreeterClient,
    world::{bounded, client},
};

/// What a client of HTTP/2 sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame: what a server of HTTP/2 sends first.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// The frames that carry fields: HEADERS, `PUSH_PROMISE`, CONTINUATION (RFC 9113 §6).
const WITH_FIELDS: [u8; 3] = [0x1, 0x5, 0x9];
/// The records that carry no data of an application: `change_cipher_spec`, alert, handshake
/// (RFC 8446 §5.1).
const HANDSHAKE: [u8; 3] = [20, 21, 22];

/// The bytes that one connection brought, and from where it came.
type Connection = (SocketAddr, Vec<u8>);

#[derive(Debug)]
pub(crate) struct PlainListener {
    address: SocketAddr,
    connections: watch::Receiver<Vec<Connection>>,
}

// ===== impl PlainListener =====

impl PlainListener {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ended, connections) = watch::channel(Vec::new());
        tokio::spawn(async move {
            // One after another, so that they end in the order in which they came.
            while let Ok((stream, peer)) = listener.accept().await {
                let bytes = read(stream).await;
                ended.send_modify(|all| all.push((peer, bytes)));
            }
        });
        Self { address, connections }
    }

    /// Where a client believes that TLS is spoken.
    pub(crate) fn https(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Its real origin.
    pub(crate) fn http(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What each connection brought. Waits until those have ended that were opened before.
    pub(crate) async fn received(&self) -> Vec<Vec<u8>> {
        // A last one, behind all others.
        let last = TcpStream::connect(self.address).await.unwrap().local_addr().unwrap();
        let mut connections = self.connections.clone();
        let ended = connections.wait_for(|all| all.iter().any(|(peer, _)| *peer == last));
        let all = bounded(ended).await.unwrap().clone();
        all.into_iter().filter(|(peer, _)| *peer != last).map(|(_, bytes)| bytes).collect()
    }
}

/// Reads to the end, or to a request. Answers as a server of plaintext HTTP/2 does: a client that
/// speaks plaintext goes on to its request, one that speaks TLS gives up.
async fn read(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end too.
    while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) && !is_request(&bytes) {
        // A client that has closed may have sent something before.
        stream.write_all(SETTINGS).await.ok();
    }
    bytes
}

fn is_request(bytes: &[u8]) -> bool {
    match frames(bytes) {
        Some(frames) => frames.iter().any(|kind| WITH_FIELDS.contains(kind)),
        None => !PREFACE.starts_with(bytes) && bytes.windows(4).any(|end| end == b"\r\n\r\n"),
    }
}

// ===== What is in the bytes =====

/// What a client has sent that it should not have, if there is anything: a token, the fields of an
/// HTTP/2 request, or anything else that is not the handshake of TLS.
pub(crate) fn leak(bytes: &[u8], token: &str) -> Option<String> {
    for secret in ["bearer", "authorization", token] {
        if contains(bytes, secret) {
            return Some(format!("`{secret}` was sent"));
        }
    }
    if let Some(frames) = frames(bytes) {
        // Fields are compressed: a token is in there, but no search finds it.
        let with_fields = frames.iter().any(|kind| WITH_FIELDS.contains(kind));
        let sent = if with_fields { "a request" } else { "a preface" };
        return Some(format!("{sent} of plaintext HTTP/2 was sent"));
    }
    let mut records = records(bytes);
    let other = records.find(|kind| !HANDSHAKE.contains(kind))?;
    Some(format!("a record of type {other} was sent"))
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
}

/// The types of the frames of HTTP/2, if it is that. The last one may be there in part.
fn frames(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut tail = bytes.strip_prefix(PREFACE)?;
    let mut kinds = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, payload @ ..] = tail {
        kinds.push(*kind);
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        tail = payload.get(length..).unwrap_or_default();
    }
    Some(kinds)
}

/// The types of the records of TLS. The last one may be there in part.
fn records(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let mut tail = bytes;
    std::iter::from_fn(move || {
        let kind = *tail.first()?;
        tail = match tail {
            [_, _, _, a, b, payload @ ..] => {
                payload.get(usize::from(u16::from_be_bytes([*a, *b]))..).unwrap_or_default()
            }
            _ => &[],
        };
        Some(kind)
    })
}

// ===== The listener is not blind =====

const TOKEN: &str = "mF_9.B5f-4.1JqM";

fn layer(origin: &str) -> BearerAuthLayer {
    let source = from_fn(async |_| AccessToken::new(TOKEN).map_err(TokenError::permanent));
    BearerAuthLayer::new(source).origin(origin).unwrap()
}

/// What the docs of `assume_origin` warn of: this is why `tls_config` has to be there.
#[tokio::test]
async fn plaintext_grpc_to_an_assumed_https_origin_is_seen_by_the_listener_not_by_the_layer() {
    let listener = PlainListener::start().await;
    let layer = layer(&listener.https()).assume_origin(listener.https()).unwrap().grpc();
    let layer = layer.buffer_body(1024, Body::new as fn(ReplayBody<Body>) -> Body);
    let channel = Channel::from_shared(listener.http()).unwrap().connect_lazy();
    bounded(GreeterClient::new(layer.layer(channel)).hello("world")).await.unwrap_err();

    let received = listener.received().await;
    let leaks: Vec<_> = received.iter().map(|bytes| leak(bytes, TOKEN)).collect();
    assert_eq!(leaks, [Some("a request of plaintext HTTP/2 was sent".to_owned())]);
}

#[tokio::test]
async fn plaintext_http_is_seen_by_the_listener() {
    let listener = PlainListener::start().await;
    let stack = layer(&listener.http()).layer(client());
    let request = Request::get(listener.http()).body(Full::default()).unwrap();
    bounded(stack.oneshot(request)).await.unwrap_err();

    let received = listener.received().await;
    let leaks: Vec<_> = received.iter().map(|bytes| leak(bytes, TOKEN)).collect();
    assert_eq!(leaks, [Some("`bearer` was sent".to_owned())]);
}

#[test]
fn data_under_tls_is_distinguished_from_the_handshake() {
    let hello = [22, 3, 1, 0, 2, 0, 0];
    assert_eq!(leak(&hello, TOKEN), None);
    let data = [&hello[..], &[23, 3, 3, 0, 1, 0]].concat();
    assert_eq!(leak(&data, TOKEN), Some("a record of type 23 was sent".to_owned()));
    let preface = [PREFACE, SETTINGS].concat();
    assert_eq!(leak(&preface, TOKEN), Some("a preface of plaintext HTTP/2 was sent".to_owned()));
}
