//! One connection to a Redis server, and its handshake.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, ErrorKind, FromRedisValue, RedisConnectionInfo, RedisError,
    ScriptInvocation, ServerErrorKind, aio::MultiplexedConnection,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::Instant,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use zeroize::Zeroizing;

use super::{
    address::Address,
    error::RedisStoreError,
    stream::{Allowance, Bounded},
};
use crate::secret::Secret;

/// A connection that has not answered for so long is dead, before the network reports it.
const SILENCE: Duration = Duration::from_secs(5);
/// The longest answer to `AUTH`.
const MAX_LINE: usize = 512;
/// The longest text of the server that an error shows.
const MAX_SHOWN: usize = 200;
/// The error codes of a refused login. An error shows no other first word: it may be an echo.
const REFUSALS: [&str; 5] = ["WRONGPASS", "NOAUTH", "NOPERM", "LOADING", "ERR"];

/// The settings for connecting.
pub(super) struct Recipe {
    pub(super) address: Address,
    pub(super) password: Option<Secret>,
    pub(super) tls: Option<TlsConnector>,
}

/// A connection that concurrent callers share.
#[derive(Clone)]
pub(super) struct Connection {
    redis: MultiplexedConnection,
    state: Arc<State>,
}

struct State {
    allowance: Allowance,
    words: Words,
    /// Whether a command has failed.
    is_broken: AtomicBool,
    /// Since when an answer has been outstanding.
    owes_since: Mutex<Option<Instant>>,
    driver: JoinHandle<()>,
}

/// What a server says, and the password that it may repeat.
#[derive(Default)]
struct Words {
    password: Option<Zeroizing<String>>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

// ===== impl Connection =====

impl Connection {
    /// Whether the connection must be replaced.
    pub(super) fn is_dead(&self) -> bool {
        let owes_since = *self.state.owes_since();
        self.state.is_broken.load(Ordering::Relaxed)
            || self.state.driver.is_finished()
            || owes_since.is_some_and(|since| since.elapsed() > SILENCE)
    }

    pub(super) async fn invoke<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, RedisStoreError> {
        let _waiting = self.state.allowance.wait();
        // `EVALSHA`, `SCRIPT LOAD` and `EVALSHA` again: up to three answers.
        for _ in 0..3 {
            self.state.allowance.one_answer_more();
        }
        self.state.owes_since().get_or_insert_with(Instant::now);
        let answer = script.invoke_async(&mut self.redis.clone()).await;
        *self.state.owes_since() = None;
        answer.map_err(|error| {
            // After any failure reconnect: a new connection reads the password again, and may reach
            // another server, as this one may be a replica by now.
            self.state.is_broken.store(true, Ordering::Relaxed);
            self.state.words.told(&error)
        })
    }
}

impl State {
    fn owes_since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.owes_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

// ===== impl Words =====

impl Words {
    fn told(&self, error: &RedisError) -> RedisStoreError {
        // The server's own words, if there are any.
        let text = match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => self.shown(&format!("{code} {detail}")),
            _ => self.shown(&error.to_string()),
        };
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => {
                RedisStoreError::Moved(text)
            }
            _ if error.is_io_error() => RedisStoreError::Lost(text),
            _ => RedisStoreError::Answer(text),
        }
    }

    /// The server's text: printable ASCII, truncated, without the password.
    fn shown(&self, text: &str) -> String {
        let clean = match self.password.as_ref().filter(|password| !password.is_empty()) {
            Some(password) => text.replace(password.as_str(), "***"),
            None => text.to_owned(),
        };
        // Replaced, not removed: what stood apart must not join up to a password.
        let printable = |it| if matches!(it, ' '..='~') { it } else { '?' };
        clean.chars().map(printable).take(MAX_SHOWN).collect()
    }
}

// ===== impl Recipe =====

impl Recipe {
    pub(super) async fn connect(&self) -> Result<Connection, RedisStoreError> {
        let failed = |error| RedisStoreError::Connect(self.address.shown(), error);
        let allowance = Allowance::default();
        let mut stream = Bounded::new(self.open().await.map_err(failed)?, allowance.clone());
        let mut words = Words::default();
        if let Some(password) = &self.password {
            let password = password.read().await.map_err(RedisStoreError::Password)?;
            allowance.one_answer_more();
            log_in(&mut stream, self.address.user.as_deref(), &password).await?;
            words.password = Some(password);
        }
        let settings = RedisConnectionInfo::default()
            .set_db(self.address.database.into())
            .set_skip_set_lib_name();
        // No timeout here: callers have their own, and `is_dead` detects a silent server.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        allowance.one_answer_more();
        let (redis, driver) = MultiplexedConnection::new_with_config(&settings, stream, config)
            .await
            .map_err(|error| words.told(&error))?;
        let state = State {
            allowance,
            words,
            is_broken: AtomicBool::new(false),
            owes_since: Mutex::default(),
            driver: tokio::spawn(driver),
        };
        Ok(Connection { redis, state: Arc::new(state) })
    }

    async fn open(&self) -> io::Result<Box<dyn Stream>> {
        let address = (self.address.host.as_str(), self.address.port);
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(self.address.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

/// Sends user and password in a buffer that is wiped. Of an answer an error shows the code alone, as
/// some servers echo a command that they do not understand.
async fn log_in(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    user: Option<&str>,
    password: &str,
) -> Result<(), RedisStoreError> {
    let words: Vec<&str> = ["AUTH"].into_iter().chain(user).chain([password]).collect();
    let len = words.iter().map(|word| word.len().saturating_add(32)).sum();
    let mut command = Zeroizing::new(Vec::with_capacity(len));
    command.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        command.extend_from_slice(word.as_bytes());
        command.extend_from_slice(b"\r\n");
    }
    let answer = async {
        stream.write_all(&command).await?;
        stream.flush().await?;
        let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE));
        while line.last() != Some(&b'\n') && line.len() < MAX_LINE {
            line.push(stream.read_u8().await?);
        }
        Ok::<_, io::Error>(line)
    };
    let answer = answer.await.map_err(|error| RedisStoreError::Lost(error.to_string()))?;
    if answer.starts_with(b"+OK") {
        return Ok(());
    }
    let said = answer.strip_prefix(b"-").unwrap_or_default();
    let code = REFUSALS.into_iter().find(|code| said.starts_with(code.as_bytes()));
    Err(RedisStoreError::Refused(code.unwrap_or("an unknown answer").to_owned()))
}

/// TLS that trusts the system's authorities, or only the given ones.
pub(super) fn tls(roots: &[Vec<u8>]) -> Result<TlsConnector, RedisStoreError> {
    let invalid =
        |error: &dyn std::fmt::Display| RedisStoreError::RootCertificate(error.to_string());
    // Not the process's default provider: there may be none, or two to choose from.
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(&error))?;
    let builder = if roots.is_empty() {
        use rustls_platform_verifier::BuilderVerifierExt;

        builder.with_platform_verifier().map_err(|error| invalid(&error))?
    } else {
        let mut store = RootCertStore::empty();
        for pem in roots {
            let before = store.len();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| invalid(&"it is not PEM"))?;
                store.add(certificate).map_err(|error| invalid(&error))?;
            }
            if store.len() == before {
                return Err(invalid(&"the PEM contains no certificate"));
            }
        }
        // The same type as the other branch.
        let verifier = tokio_rustls::rustls::client::WebPkiServerVerifier::builder_with_provider(
            Arc::new(store),
            Arc::clone(builder.crypto_provider()),
        )
        .build()
        .map_err(|error| invalid(&error))?;
        builder.dangerous().with_custom_certificate_verifier(verifier)
    };
    Ok(TlsConnector::from(Arc::new(builder.with_no_client_auth())))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    async fn logged_in(answer: &[u8]) -> (Result<(), RedisStoreError>, String) {
        let (mut server, mut client) = duplex(4096);
        server.write_all(answer).await.unwrap();
        let outcome = log_in(&mut client, Some("fleet"), "hush").await;
        drop(client);
        let mut sent = String::new();
        server.read_to_string(&mut sent).await.unwrap();
        (outcome, sent)
    }

    #[tokio::test]
    async fn user_and_password_are_sent_as_one_command() {
        let (outcome, sent) = logged_in(b"+OK\r\n").await;
        assert!(outcome.is_ok());
        assert_eq!(sent, "*3\r\n$4\r\nAUTH\r\n$5\r\nfleet\r\n$4\r\nhush\r\n");
    }

    #[tokio::test]
    async fn a_refusal_shows_nothing_that_the_server_repeats() {
        for answer in [
            "-WRONGPASS no\r\n",
            "-ERR unknown command `AUTH`, with args beginning with: `fleet`, `hush`\r\n",
            "HTTP/1.1 400 hush\r\n",
            "-hush\r\n",
            &"hush".repeat(1000),
        ] {
            let error = logged_in(answer.as_bytes()).await.0.unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(matches!(error, RedisStoreError::Refused(_)), "{shown}");
            assert!(!shown.contains("hush") && shown.contains("`password`"), "{shown}");
        }
    }

    #[tokio::test]
    async fn a_refusal_shows_a_code_that_is_known_and_no_other_word() {
        for (answer, code) in
            [("-WRONGPASS no\r\n", "WRONGPASS"), ("-HUSH\r\n", "an unknown answer")]
        {
            let error = logged_in(answer.as_bytes()).await.0.unwrap_err();
            assert!(matches!(&error, RedisStoreError::Refused(said) if said == code), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_repeats_the_password_later_on_makes_no_error_show_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let server = async {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut command = [0; 4096];
            for answer in ["+OK\r\n", "-ERR you are the one with hush\r\n"] {
                assert_ne!(client.read(&mut command).await.unwrap(), 0);
                client.write_all(answer.as_bytes()).await.unwrap();
            }
            client
        };
        let recipe = Recipe {
            address: Address::parse(&url).unwrap(),
            password: Some(Secret::new("hush")),
            tls: None,
        };
        let client = async {
            let script = redis::Script::new("return 1");
            let connection = recipe.connect().await.unwrap();
            let outcome: Result<u64, _> = connection.invoke(&script.prepare_invoke()).await;
            outcome.unwrap_err().to_string()
        };
        let (error, _client) = tokio::join!(client, server);
        assert!(error.contains("you are the one with ***"), "{error}");
    }

    #[test]
    fn what_a_server_says_is_shown_in_ascii_and_without_the_password() {
        let words = Words { password: Some(Zeroizing::new("hush".to_owned())) };
        let said = format!("ERR hush\u{202e}hu\nsh{}", "a".repeat(1000));
        let shown = words.shown(&said);
        assert!(shown.starts_with("ERR ***?hu?sha") && shown.len() == MAX_SHOWN, "{shown}");
        assert_eq!(Words::default().shown("ERR é"), "ERR ?");
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for pem in ["", "hush", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let outcome = tls(&[pem.into()]).map(drop);
            assert!(matches!(outcome, Err(RedisStoreError::RootCertificate(_))), "{pem}");
        }
    }
}
