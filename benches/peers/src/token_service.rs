//! The token service that every peer fetches from: it takes a while, and remembers who came when.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// The length of a token, in bytes: that of a signed JWT with a few claims.
const TOKEN_LENGTH: usize = 1024;

/// Issues tokens that can be told apart. A clone is another handle.
#[derive(Clone, Debug)]
pub(crate) struct TokenService {
    /// How long a fetch takes.
    delay: Duration,
    /// How long a token may be used before its peer considers it due.
    pub(crate) fresh: Duration,
    fetches: Arc<Mutex<Vec<Fetch>>>,
}

/// When it began, and when it ended, if it has.
pub(crate) type Fetch = (Instant, Option<Instant>);

impl TokenService {
    pub(crate) fn new(delay: Duration, fresh: Duration) -> Self {
        Self { delay, fresh, fetches: Arc::default() }
    }

    /// The next token.
    pub(crate) async fn issue(&self) -> String {
        let nth = {
            let mut fetches = self.fetches.lock().expect("nobody panics with it");
            fetches.push((Instant::now(), None));
            fetches.len() - 1
        };
        if !self.delay.is_zero() {
            sleep(self.delay).await;
        }
        self.fetches.lock().expect("nobody panics with it")[nth].1 = Some(Instant::now());
        token(nth)
    }

    /// All fetches so far.
    pub(crate) fn fetches(&self) -> Vec<Fetch> {
        self.fetches.lock().expect("nobody panics with it").clone()
    }

    /// The answer of an OAuth token endpoint.
    pub(crate) async fn answer(&self, expires_in: Duration) -> String {
        let (token, seconds) = (self.issue().await, expires_in.as_secs());
        format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{seconds}}}"#)
    }

    /// Serves that answer on loopback, for a peer that takes a URL and nothing else.
    pub(crate) async fn listen(&self, expires_in: Duration) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let service = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move { service.serve(stream, expires_in).await });
            }
        });
        format!("http://{address}/token")
    }

    async fn serve(&self, mut stream: TcpStream, expires_in: Duration) {
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        while !is_whole(&request) {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => request.extend_from_slice(&buffer[..read]),
            }
        }
        let body = self.answer(expires_in).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
        let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.expect("the peer waits for it");
    }
}

/// Whether head and body are here.
fn is_whole(request: &[u8]) -> bool {
    let request = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().expect("that is a length"))
}

/// The text of a token.
fn token(nth: usize) -> String {
    format!("{nth:0>TOKEN_LENGTH$}")
}

/// Which token that is, by the text of its header.
pub(crate) fn nth(header: &[u8]) -> Option<usize> {
    let token = header.strip_prefix(b"Bearer ")?;
    assert_eq!(token.len(), TOKEN_LENGTH, "that is no token of ours");
    std::str::from_utf8(token).ok()?.parse().ok()
}
