//! Real processes over a [`FileStore`]: this program's own children, of which some are killed.
#![cfg(unix)]
#![allow(missing_docs)]

use std::{
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command},
    sync::watch,
    time::timeout,
};
use tower_bearer::{
    AccessToken, Reason, TokenError, TokenRequest, TokenSource,
    shared::{FileStore, Seal, Shared, Swapped, TokenStore},
};

const SEAL: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const BOUND: Duration = Duration::from_secs(30);
/// What a child does, and where.
const ROLE: &str = "TOWER_BEARER_TEST_ROLE";
const DIRECTORY: &str = "TOWER_BEARER_TEST_DIRECTORY";
const SERVICE: &str = "TOWER_BEARER_TEST_SERVICE";

// ===== The token service =====

/// A token service that rotates refresh tokens. One that is sent twice is refused, or gets the
/// answer of a new exchange if the service forgives (which that of `testing` never does).
struct Service {
    address: String,
    exchanges: watch::Receiver<u32>,
}

impl Service {
    async fn start(forgives: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (count, exchanges) = watch::channel(0);
        let newest = Arc::new(Mutex::new("configured".to_owned()));
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let nth = *count.borrow() + 1;
                let newest = Arc::clone(&newest);
                let answer = move |sent: &str| {
                    let mut newest = newest.lock().unwrap();
                    if *newest != sent && !forgives {
                        return "invalid_grant".to_owned();
                    }
                    *newest = format!("r-{nth}");
                    format!("t-{nth} r-{nth}")
                };
                serve(connection, answer).await;
                count.send_replace(nth);
            }
        });
        Self { address, exchanges }
    }

    async fn until(&self, exchanges: u32) {
        let mut watched = self.exchanges.clone();
        let waited = timeout(BOUND, watched.wait_for(|count| *count >= exchanges)).await;
        waited.expect("in time").expect("the service runs");
    }

    fn exchanges(&self) -> u32 {
        *self.exchanges.borrow()
    }
}

async fn serve(connection: TcpStream, answer: impl Fn(&str) -> String) {
    let mut connection = BufReader::new(connection);
    let mut sent = String::new();
    connection.read_line(&mut sent).await.unwrap();
    let answer = answer(sent.trim());
    // A child may have been killed.
    drop(connection.write_all(format!("{answer}\n").as_bytes()).await);
}

// ===== A child =====

/// Exchanges the refresh token, and does something before it hands out the answer.
struct Source {
    address: String,
    then: Then,
}

enum Then {
    Return,
    /// It never returns: a process that is killed now has an answer that is stored nowhere.
    Cut,
    /// It says so, and returns a little later: a process that is stopped now goes on with the answer.
    Tell,
}

impl TokenSource for Source {
    async fn fetch(&self, request: TokenRequest) -> Result<AccessToken, TokenError> {
        let sent = request.previous().and_then(AccessToken::refresh_token).unwrap_or("configured");
        let mut connection =
            TcpStream::connect(&self.address).await.map_err(TokenError::transient)?;
        let line = format!("{sent}\n");
        connection.write_all(line.as_bytes()).await.map_err(TokenError::transient)?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.map_err(TokenError::transient)?;
        match self.then {
            Then::Return => {}
            Then::Cut => std::future::pending().await,
            Then::Tell => {
                // It counts from before: the stop may come at once, and last for longer than the fetch may.
                let pause = tokio::time::sleep(Duration::from_millis(500));
                println!("answer: exchanged");
                pause.await;
            }
        }
        let Some((token, refresh_token)) = answer.trim().split_once(' ') else {
            return Err(TokenError::permanent("invalid_grant"));
        };
        let token = AccessToken::new(token).map_err(TokenError::permanent)?;
        Ok(token.with_lifetime(Duration::from_secs(600)).with_refresh_token(refresh_token))
    }

    fn is_repeatable(&self) -> bool {
        false
    }
}

/// What a child does; without a role, nothing.
#[tokio::test]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let directory = std::env::var(DIRECTORY).unwrap();
    match role.as_str() {
        "write" => write_for_ever(&FileStore::new(directory)).await,
        role => {
            let address = std::env::var(SERVICE).unwrap();
            let then = match role {
                "cut" => Then::Cut,
                "tell" => Then::Tell,
                _ => Then::Return,
            };
            let source = Source { address, then };
            let shared = Shared::new(source, FileStore::new(directory))
                .name("orders")
                .seal(Seal::new(SEAL))
                .lease(Duration::from_secs(1))
                .store_timeout(Duration::from_secs(5));
            match shared.fetch(TokenRequest::new(Reason::First)).await {
                Ok(token) => println!("answer: {}", token.secret()),
                Err(error) => println!("answer: {error}"),
            }
        }
    }
}

/// Replaces one record by the next, each as long as none before, and tells of each.
async fn write_for_ever(store: &FileStore) {
    let mut version = store.load("orders").await.unwrap().version;
    for nth in 0_u32.. {
        let sealed = format!("{nth} ").repeat(usize::try_from(nth % 500 + 1).unwrap() * 10);
        match store.swap("orders", &version, sealed.as_bytes()).await.unwrap() {
            Swapped::Done(next) => version = next,
            other => panic!("{other:?}"),
        }
        println!("answer: {nth}");
    }
}

struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(role: &str, directory: &Path, service: Option<&Service>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(ROLE, role)
            .env(DIRECTORY, directory)
            .env(SERVICE, service.map_or("", |service| &service.address))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn answer(&mut self) -> String {
        loop {
            let line = timeout(BOUND, self.lines.next_line()).await.expect("in time").unwrap();
            let line = line.expect("the child answers before it ends");
            // The test harness may have begun the line.
            if let Some((_, answer)) = line.split_once("answer: ") {
                return answer.to_owned();
            }
        }
    }

    /// `SIGSTOP` or `SIGCONT`.
    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().expect("it runs")).unwrap();
        kill_process(Pid::from_raw(id).expect("it is no group"), signal).unwrap();
    }

    /// `SIGKILL`.
    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

// ===== What must hold =====

#[tokio::test]
async fn twenty_processes_exchange_a_refresh_token_once() {
    let (service, directory) = (Service::start(false).await, directory());
    let tokens = directory.path().join("tokens");
    let mut processes: Vec<_> =
        (0..20).map(|_| Process::start("fetch", &tokens, Some(&service))).collect();
    let answers = join_all(processes.iter_mut().map(Process::answer)).await;
    assert_eq!(answers, vec!["t-1"; 20]);
    assert_eq!(service.exchanges(), 1);
}

#[tokio::test]
async fn a_process_that_is_killed_between_exchange_and_store_costs_one_more_try() {
    let (service, directory) = (Service::start(true).await, directory());
    let tokens = directory.path().join("tokens");
    let killed = Process::start("cut", &tokens, Some(&service));
    service.until(1).await;
    killed.kill().await;
    let mut processes: Vec<_> =
        (0..5).map(|_| Process::start("fetch", &tokens, Some(&service))).collect();
    let answers = join_all(processes.iter_mut().map(Process::answer)).await;
    assert_eq!(answers, vec!["t-2"; 5]);
    assert_eq!(service.exchanges(), 2);
}

#[tokio::test]
async fn a_service_that_refuses_the_one_more_try_makes_an_explicit_error() {
    let (service, directory) = (Service::start(false).await, directory());
    let tokens = directory.path().join("tokens");
    let killed = Process::start("cut", &tokens, Some(&service));
    service.until(1).await;
    killed.kill().await;
    let mut process = Process::start("fetch", &tokens, Some(&service));
    let answer = process.answer().await;
    assert!(answer.contains("refresh token is lost"), "{answer}");
    assert_eq!(service.exchanges(), 2);
}

#[tokio::test]
async fn a_process_that_is_stopped_past_its_lease_is_heard_when_it_goes_on() {
    let (service, directory) = (Service::start(false).await, directory());
    let tokens = directory.path().join("tokens");
    let mut stopped = Process::start("tell", &tokens, Some(&service));
    assert_eq!(stopped.answer().await, "exchanged");
    stopped.signal(Signal::STOP);
    let mut successor = Process::start("fetch", &tokens, Some(&service));
    assert!(successor.answer().await.contains("refresh token is lost"));
    stopped.signal(Signal::CONT);
    assert_eq!(stopped.answer().await, "t-1");
    let mut next = Process::start("fetch", &tokens, Some(&service));
    assert_eq!(next.answer().await, "t-1");
    assert_eq!(service.exchanges(), 2);
}

#[tokio::test]
async fn a_writer_that_is_killed_at_any_moment_leaves_a_whole_record_and_no_lock() {
    let directory = directory();
    let tokens = directory.path().join("tokens");
    for kills in 0..15_u32 {
        let mut writer = Process::start("write", &tokens, None);
        let mut told = 0_u32;
        for _ in 0..=kills * 3 {
            told = writer.answer().await.parse().unwrap();
        }
        writer.kill().await;
        let store = FileStore::new(&tokens);
        let loaded = store.load("orders").await.unwrap();
        let sealed = String::from_utf8(loaded.sealed.unwrap()).unwrap();
        let nth: u32 = sealed.split(' ').next().unwrap().parse().unwrap();
        assert!(nth >= told, "what was told of is stored");
        assert_eq!(sealed, format!("{nth} ").repeat(usize::try_from(nth % 500 + 1).unwrap() * 10));
        let swapped = store.swap("orders", &loaded.version, b"next").await.unwrap();
        assert!(matches!(swapped, Swapped::Done(_)));
    }
}
