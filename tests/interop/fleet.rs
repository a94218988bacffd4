//! Twenty processes that share one refresh token, which the server rotates, and whose family it
//! revokes when one is used twice: over Redis and over files, through all that may happen to them.
//!
//! Where a process is killed or stopped between the exchange and the store, nobody else can have what
//! came of it: a client with a leeway, for which a refresh token is good again for 30 s.

use std::{
    collections::HashMap,
    env,
    fmt::Write,
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    sync::mpsc,
    time::{Instant, timeout},
};

use crate::{
    member::{CLIENT, CUT, DIRECTORY, STORE, TELL, cache, log_in},
    redis::{Mode, Proxy, Server},
    servers::{forget, login, seen, setting},
};

const PROCESSES: usize = 20;
const BOUND: Duration = Duration::from_secs(60);

/// What a process has said.
enum Said {
    Exchanged,
    Call { took: u64, outcome: String },
}

struct Fleet {
    client: &'static str,
    store: String,
    directory: tempfile::TempDir,
    children: HashMap<usize, Child>,
    started: usize,
    told: mpsc::UnboundedReceiver<(usize, Said)>,
    tell: mpsc::UnboundedSender<(usize, Said)>,
    fetches: u64,
    refused_before: usize,
    /// When all had the newest token.
    renewed: Instant,
    calls: u64,
    failed: Vec<String>,
    longest: u64,
    all_failed: HashMap<String, usize>,
    table: String,
}

impl Fleet {
    async fn start(client: &'static str, store: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        log_in(directory.path(), &login(client).await);
        let (tell, told) = mpsc::unbounded_channel();
        // Another test may have had the same client.
        let before = seen(client).await;
        let table = format!("{client}\n{:<62}fetches   calls  failed  longest wait\n", "");
        let mut fleet = Self {
            client,
            store: store.to_owned(),
            directory,
            children: HashMap::new(),
            started: 0,
            told,
            tell,
            fetches: before.granted,
            refused_before: before.refused.len(),
            renewed: Instant::now(),
            calls: 0,
            failed: Vec::new(),
            longest: 0,
            all_failed: HashMap::new(),
            table,
        };
        for _ in 0..PROCESSES {
            fleet.spawn(&[]);
        }
        fleet
    }

    fn spawn(&mut self, environment: &[(&str, &str)]) {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "member::a_process_of_a_fleet_if_it_is_one", "--nocapture"])
            .env(CLIENT, self.client)
            .env(STORE, &self.store)
            .env(DIRECTORY, self.directory.path())
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let id = self.started;
        self.started += 1;
        tokio::spawn(follow(id, child.stdout.take().unwrap(), self.tell.clone()));
        self.children.insert(id, child);
    }

    async fn kill(&mut self, id: usize) {
        self.children.remove(&id).unwrap().kill().await.unwrap();
    }

    fn signal(&self, id: usize, signal: Signal) {
        let id = i32::try_from(self.children[&id].id().expect("it runs")).unwrap();
        kill_process(Pid::from_raw(id).expect("it is no group"), signal).unwrap();
    }

    /// What one of them says next.
    async fn next(&mut self) -> (usize, Said) {
        let (id, said) =
            timeout(BOUND, self.told.recv()).await.expect("they go on").expect("they live");
        if let Said::Call { took, outcome } = &said {
            self.calls += 1;
            self.longest = self.longest.max(*took);
            if outcome != "ok" {
                self.failed.push(outcome.clone());
            }
        }
        (id, said)
    }

    /// Waits until each process but those has made so many calls that succeed.
    async fn calls(&mut self, count: usize, except: &[usize]) {
        let end = Instant::now() + BOUND;
        let mut left: HashMap<usize, usize> =
            self.children.keys().filter(|id| !except.contains(id)).map(|id| (*id, count)).collect();
        while !left.is_empty() {
            assert!(
                Instant::now() < end,
                "no success of {left:?}, the last failure: {:?}",
                self.failed.last()
            );
            if let (id, Said::Call { outcome, .. }) = self.next().await {
                if outcome == "ok" {
                    if let Some(count) = left.get_mut(&id) {
                        *count -= 1;
                    }
                    left.retain(|_, count| *count > 0);
                }
            }
        }
        self.renewed = Instant::now();
    }

    /// The access token ends at the server: the one that a process which starts now finds.
    async fn revoke(&mut self) {
        // A fleet does not renew again any sooner what was renewed.
        let again = self.renewed + Duration::from_secs(6);
        while Instant::now() < again {
            self.next().await;
        }
        let cache = cache(self.client, &self.store, self.directory.path().to_owned());
        forget(&cache.get().await.unwrap()).await;
    }

    /// The access token ends at the server, and all have the next one.
    async fn renew(&mut self, except: &[usize]) {
        self.revoke().await;
        self.calls(3, except).await;
    }

    /// Which process has exchanged what will not be stored, or not yet.
    async fn exchanged(&mut self) -> usize {
        let end = Instant::now() + BOUND;
        loop {
            assert!(
                Instant::now() < end,
                "nobody exchanges, the last failure: {:?}",
                self.failed.last()
            );
            if let (id, Said::Exchanged) = self.next().await {
                return id;
            }
        }
    }

    fn order(&self, what: &str) {
        fs::write(self.directory.path().join(what), "").unwrap();
    }

    /// Notes what has come since the last row.
    async fn row(&mut self, what: &str) {
        let fetches = seen(self.client).await.granted;
        let new = fetches - std::mem::replace(&mut self.fetches, fetches);
        let (calls, longest) = (std::mem::take(&mut self.calls), std::mem::take(&mut self.longest));
        let failed = std::mem::take(&mut self.failed);
        let count = failed.len();
        for outcome in failed {
            *self.all_failed.entry(outcome).or_default() += 1;
        }
        writeln!(self.table, "{what:<62}{new:>7}{calls:>8}{count:>8}{longest:>11} ms").unwrap();
    }

    /// Whether the family lives, after all that: another exchange says.
    async fn end(mut self) {
        self.renew(&[]).await;
        self.row("in the end, another renewal").await;
        let refused = seen(self.client).await.refused.split_off(self.refused_before);
        writeln!(self.table, "families lost: {}\n", u8::from(!refused.is_empty())).unwrap();
        println!("{}", self.table);
        let mut figures = OpenOptions::new().append(true).open(setting("FIGURES")).unwrap();
        figures.write_all(self.table.as_bytes()).unwrap();
        assert_eq!(refused, Vec::<String>::new());
        assert_eq!(self.all_failed, HashMap::new());
    }
}

async fn follow(id: usize, told: ChildStdout, tell: mpsc::UnboundedSender<(usize, Said)>) {
    let mut lines = BufReader::new(told).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // The test harness may have begun the line.
        let Some((_, said)) = line.split_once("member: ") else { continue };
        let said = match said.split_once(' ').and_then(|(_, call)| call.split_once(' ')) {
            Some((took, outcome)) => {
                Said::Call { took: took.parse().unwrap(), outcome: outcome.to_owned() }
            }
            None => Said::Exchanged,
        };
        // The test may be over.
        drop(tell.send((id, said)));
    }
}

/// What makes a process's wall clock show another time.
fn an_hour_ahead() -> [(String, String); 2] {
    let arguments = ["-f", "+1h", "printenv", "LD_PRELOAD"];
    let said = std::process::Command::new("faketime").args(arguments).output();
    let said = said.expect("`run` has looked for it");
    let library = String::from_utf8(said.stdout).unwrap().trim().to_owned();
    assert!(!library.is_empty());
    [("LD_PRELOAD".to_owned(), library), ("FAKETIME".to_owned(), "+1h".to_owned())]
}

/// Whether there is time for all of it.
fn is_long() -> bool {
    env::var_os("INTEROP_LONG").is_some()
}

fn away() -> Duration {
    Duration::from_secs(if is_long() { 20 } else { 5 })
}

// ===== Faults that a service without any leeway forgives =====

#[tokio::test(flavor = "multi_thread")]
async fn twenty_processes_over_redis_lose_no_call_and_no_family() {
    let mut server = Server::start().await.expect("`run` has looked for it");
    let proxy = Proxy::start(server.address).await;
    let mut fleet = Fleet::start("fleet-redis", &proxy.url()).await;
    fleet.calls(3, &[]).await;
    fleet.row("20 processes start").await;

    let ahead = an_hour_ahead();
    let ahead: Vec<_> = ahead.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for _ in 0..3 {
        fleet.spawn(&ahead);
    }
    fleet.calls(2, &[]).await;
    fleet.renew(&[]).await;
    fleet.row("3 more start whose clocks are an hour ahead, token revoked").await;

    server.flush_all().await;
    fleet.renew(&[]).await;
    fleet.row("FLUSHALL, token revoked").await;

    proxy.set(Mode::Delay(Duration::from_secs(2)));
    fleet.calls(10, &[]).await;
    proxy.set(Mode::Pass);
    fleet.calls(10, &[]).await;
    fleet.renew(&[]).await;
    fleet.row("the server answers after 2 s, then at once; token revoked").await;

    server.stop().await;
    let end = Instant::now() + away();
    while Instant::now() < end {
        fleet.next().await;
    }
    server.start_again().await;
    fleet.calls(10, &[]).await;
    fleet.renew(&[]).await;
    fleet.row(&format!("the server is away for {:?}, token revoked", away())).await;

    for id in 0..5 {
        fleet.kill(id).await;
        fleet.spawn(&[]);
    }
    fleet.renew(&[]).await;
    fleet.row("kill -9 for 5, others start, token revoked").await;
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_processes_over_files_lose_no_call_and_no_family() {
    if !is_long() {
        return;
    }
    let tokens = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start("fleet-files", &text(&tokens.path().join("tokens"))).await;
    fleet.calls(3, &[]).await;
    fleet.row("20 processes start").await;

    for id in 0..5 {
        fleet.kill(id).await;
        fleet.spawn(&[]);
    }
    fleet.renew(&[]).await;
    fleet.row("kill -9 for 5, others start, token revoked").await;

    for id in 5..10 {
        fleet.signal(id, Signal::STOP);
    }
    let stopped = [5, 6, 7, 8, 9];
    fleet.renew(&stopped).await;
    for id in stopped {
        fleet.signal(id, Signal::CONT);
    }
    fleet.renew(&[]).await;
    fleet.row("SIGSTOP for 5, token revoked, SIGCONT, token revoked").await;

    fs::remove_file(tokens.path().join("tokens/fleet.token")).unwrap();
    fleet.renew(&[]).await;
    fleet.row("the file is deleted, token revoked").await;
    fleet.end().await;
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

// ===== Faults between the exchange and the store =====

async fn faults_between_exchange_and_store(mut fleet: Fleet) {
    fleet.calls(3, &[]).await;
    fleet.row("20 processes start").await;

    fleet.order(CUT);
    fleet.revoke().await;
    let cut = fleet.exchanged().await;
    fleet.kill(cut).await;
    fleet.calls(3, &[]).await;
    fleet.row("kill -9 between exchange and store").await;

    fleet.order(TELL);
    fleet.revoke().await;
    let stopped = fleet.exchanged().await;
    fleet.signal(stopped, Signal::STOP);
    fleet.calls(3, &[stopped]).await;
    fleet.signal(stopped, Signal::CONT);
    fleet.calls(3, &[]).await;
    fleet.row("SIGSTOP between exchange and store, past the lease; SIGCONT").await;
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dies_between_exchange_and_store_costs_one_more_try_over_files() {
    let tokens = tempfile::tempdir().unwrap();
    let store = text(&tokens.path().join("tokens"));
    faults_between_exchange_and_store(Fleet::start("fleet-lenient", &store).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dies_between_exchange_and_store_costs_one_more_try_over_redis() {
    if !is_long() {
        return;
    }
    let server = Server::start().await.expect("`run` has looked for it");
    faults_between_exchange_and_store(Fleet::start("fleet-lenient", &server.url()).await).await;
}
