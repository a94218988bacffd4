//! The parent process: starts the fleet, injects the faults and counts.

use std::{
    env,
    process::{ExitCode, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{sleep, timeout},
};
use tower_bearer::{
    BoxError,
    testing::{Dialect, Failure, World},
};

use crate::{
    place::Place,
    process::{API_URL, REFRESH_TOKEN, SEAL, STORE, TOKEN_URL},
};

const PROCESSES: usize = 10;
/// How long to wait for calls to succeed again.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a process has reported: its calls and failures, and the longest wait since the last row.
type Tally = Arc<Mutex<[u64; 3]>>;

struct Fleet {
    place: Place,
    world: World,
    environment: Vec<(&'static str, String)>,
    processes: Vec<Child>,
    tallies: Vec<Tally>,
    fetches_before: u64,
    rows: Vec<String>,
}

pub(crate) async fn run() -> Result<ExitCode, BoxError> {
    let mut fleet = Fleet::new().await?;
    for _ in 0..PROCESSES {
        fleet.start()?;
    }
    fleet.accepted().await?;
    rest(2).await;
    fleet.row("ten processes start");

    fleet.revoke().await?;
    fleet.row("the token is revoked");

    for _ in 0..3 {
        fleet.kill().await?;
        fleet.start()?;
    }
    rest(2).await;
    fleet.row("three processes are killed, three others start");

    fleet.place.empty().await?;
    rest(4).await;
    fleet.revoke().await?;
    fleet.row("the store is emptied, then the token revoked");

    fleet.place.fill_with_garbage().await?;
    rest(4).await;
    fleet.revoke().await?;
    fleet.row("the store is filled with garbage, then the token revoked");

    if let Some(redis) = fleet.place.redis() {
        redis.stop().await?;
        rest(5).await;
        redis.start().await?;
        rest(4).await;
        fleet.revoke().await?;
        fleet.row("Redis is down for 5 s and comes back empty, then the token revoked");
    }

    fleet.world.tokens().fail(Failure::Status(503));
    rest(3).await;
    fleet.world.tokens().recover();
    rest(2).await;
    fleet.row("the token service is down while the token is valid");

    // The family is lost if the next renewal does not bring a valid token.
    let is_lost = fleet.revoke().await.is_err();
    println!("{:<68} {:>8} {:>8} {:>8} {:>12}", "", "fetches", "calls", "failed", "longest wait");
    for row in &fleet.rows {
        println!("{row}");
    }
    println!("families lost: {}", u8::from(is_lost));
    let [_, failed, _] = fleet.total();
    Ok(ExitCode::from(u8::from(failed > 0 || is_lost)))
}

async fn rest(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

impl Fleet {
    async fn new() -> Result<Self, BoxError> {
        let (world, place) = (World::start().await?, Place::new().await?);
        let environment = vec![
            (STORE, place.to_text()),
            // `openssl rand -base64 32` makes a real one.
            (SEAL, "5e".repeat(32)),
            (REFRESH_TOKEN, world.tokens().log_in()),
            (TOKEN_URL, world.tokens().url(Dialect::Rfc6749)),
            (API_URL, world.api().origin()),
        ];
        let (processes, tallies, rows) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { place, world, environment, processes, tallies, fetches_before: 0, rows })
    }

    fn start(&mut self) -> Result<(), BoxError> {
        let mut child = Command::new(env::current_exe()?)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let tally = Tally::default();
        let stdout = child.stdout.take().ok_or("the child process has no output")?;
        tokio::spawn(follow(BufReader::new(stdout), Arc::clone(&tally)));
        self.processes.push(child);
        self.tallies.push(tally);
        Ok(())
    }

    /// Sends `SIGKILL` to the oldest process.
    async fn kill(&mut self) -> Result<(), BoxError> {
        let mut oldest = self.processes.remove(0);
        Ok(oldest.kill().await?)
    }

    /// Calls and failures of all processes so far, and the longest wait in milliseconds.
    fn total(&self) -> [u64; 3] {
        self.tallies.iter().fold([0; 3], |[calls, failed, longest], tally| {
            let tally = tally.lock().map_or([0; 3], |tally| *tally);
            [calls + tally[0], failed + tally[1], longest.max(tally[2])]
        })
    }

    /// Adds a row with what has happened since the last one.
    fn row(&mut self, what: &str) {
        let fetches = self.world.tokens().fetches();
        let new = fetches - std::mem::replace(&mut self.fetches_before, fetches);
        let [calls, failed, longest] = self.total();
        for tally in &self.tallies {
            if let Ok(mut tally) = tally.lock() {
                tally[2] = 0;
            }
        }
        self.rows.push(format!("{what:<68} {new:>8} {calls:>8} {failed:>8} {longest:>9} ms"));
    }

    /// Revokes the token, and waits until the fleet has the next one.
    async fn revoke(&self) -> Result<(), BoxError> {
        self.world.revoke_all();
        self.accepted().await?;
        rest(2).await;
        Ok(())
    }

    /// Waits for calls that succeed. This takes a while after the store has lost its record: the
    /// crate then waits before it exchanges a refresh token, so that a process with a newer one can
    /// put it back.
    async fn accepted(&self) -> Result<(), BoxError> {
        let wanted = self.world.api().accepted() + 10;
        let accepted = async {
            while self.world.api().accepted() < wanted {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE, accepted).await.map_err(|_| "no call has succeeded for a minute".into())
    }
}

async fn follow(mut stdout: BufReader<tokio::process::ChildStdout>, tally: Tally) {
    let mut line = String::new();
    while stdout.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        let mut numbers = line.split_whitespace().map_while(|number| number.parse().ok());
        if let (Some(calls), Some(failed), Some(longest)) =
            (numbers.next(), numbers.next(), numbers.next())
        {
            if let Ok(mut tally) = tally.lock() {
                *tally = [calls, failed, longest.max(tally[2])];
            }
        }
        line.clear();
    }
}
