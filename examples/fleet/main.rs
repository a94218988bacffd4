//! One refresh token that rotates, ten processes that share it, and a bad day.
//!
//! ```sh
//! cargo run --example fleet --features shared,testing
//! ```
//!
//! It starts a token service and an API on loopback, and ten processes of itself that make 500
//! calls a second together. They share their token over a `FileStore`. Then it revokes the token,
//! kills processes and starts others, deletes what is stored, fills it with garbage and stops the
//! token service for a while. At the end it prints what that has cost, and exits with 1 if a call
//! failed or the refresh token's family was lost.
//!
//! Beside ten processes without this crate's `Shared`: the second exchange of a refresh token would
//! have ended its family.

#[cfg(unix)]
#[tokio::main]
async fn main() -> Result<std::process::ExitCode, tower_bearer::BoxError> {
    if std::env::var_os(fleet::DIRECTORY).is_some() {
        fleet::process().await?;
        return Ok(std::process::ExitCode::SUCCESS);
    }
    fleet::run().await
}

#[cfg(not(unix))]
fn main() {
    eprintln!("the store in files is for Unix alone");
}

#[cfg(unix)]
mod fleet {
    use std::{
        env,
        path::Path,
        process::{ExitCode, Stdio},
        sync::{Arc, Mutex},
        time::Duration,
    };

    use http::Request;
    use tokio::{
        io::{AsyncBufReadExt, BufReader},
        process::{Child, Command},
        time::{Instant, interval, sleep},
    };
    use tower::{Layer, ServiceExt};
    use tower_bearer::{
        BearerAuthLayer, BoxError, Secret,
        oauth2::{ReqwestService, TokenEndpoint},
        shared::{FileStore, Seal, Shared},
        testing::{CLIENT_ID, CLIENT_SECRET, Dialect, Failure, World},
    };

    /// Where the processes share their token. Only processes of the fleet have it.
    pub(super) const DIRECTORY: &str = "FLEET_DIRECTORY";
    const SEAL: &str = "FLEET_SEAL";
    const REFRESH_TOKEN: &str = "FLEET_REFRESH_TOKEN";
    const TOKEN_URL: &str = "FLEET_TOKEN_URL";
    const API_URL: &str = "FLEET_API_URL";

    const PROCESSES: usize = 10;
    /// Between two calls of one process: 50 a second.
    const PACE: Duration = Duration::from_millis(20);

    // ===== One process =====

    /// Calls the API until it is killed, and tells what it has seen four times a second.
    pub(super) async fn process() -> Result<(), BoxError> {
        let endpoint = TokenEndpoint::builder(env::var(TOKEN_URL)?)
            .client_id(CLIENT_ID)
            .client_secret(CLIENT_SECRET)
            // Only the first process of all sends this one: the store has the newest.
            .refresh_token(Secret::env(REFRESH_TOKEN))
            .build()?;
        let shared = Shared::new(endpoint, FileStore::new(env::var(DIRECTORY)?))
            .name("orders")
            .seal(Seal::new(Secret::env(SEAL)));
        let url = env::var(API_URL)?;
        let api = BearerAuthLayer::new(shared).origin(&url)?.layer(ReqwestService::default());

        let (mut calls, mut failed, mut longest) = (0_u32, 0_u32, Duration::ZERO);
        let mut pace = interval(PACE);
        let mut told = Instant::now();
        loop {
            pace.tick().await;
            let request = Request::get(format!("{url}/orders")).body(String::new())?;
            let began = Instant::now();
            let outcome = api.clone().oneshot(request).await;
            longest = longest.max(began.elapsed());
            calls += 1;
            failed += u32::from(!outcome.is_ok_and(|response| response.status() == 200));
            if told.elapsed() > Duration::from_millis(250) {
                println!("{calls} {failed} {}", longest.as_millis());
                told = Instant::now();
            }
        }
    }

    // ===== The fleet =====

    /// What a process has told last.
    type Tally = Arc<Mutex<[u64; 3]>>;

    struct Fleet {
        directory: tempfile::TempDir,
        world: World,
        environment: Vec<(&'static str, String)>,
        processes: Vec<Child>,
        tallies: Vec<Tally>,
    }

    pub(super) async fn run() -> Result<ExitCode, BoxError> {
        let mut fleet = Fleet::new().await?;
        for _ in 0..PROCESSES {
            fleet.start()?;
        }
        sleep(Duration::from_secs(2)).await;
        let mut rows = vec![fleet.row("ten processes start", 0)];

        let before = fleet.world.tokens().fetches();
        fleet.world.revoke_all();
        sleep(Duration::from_secs(2)).await;
        rows.push(fleet.row("the token is revoked", before));

        let before = fleet.world.tokens().fetches();
        for _ in 0..3 {
            fleet.kill().await?;
            fleet.start()?;
        }
        sleep(Duration::from_secs(2)).await;
        rows.push(fleet.row("three processes are killed, three others start", before));

        let before = fleet.world.tokens().fetches();
        std::fs::remove_file(fleet.record())?;
        sleep(Duration::from_secs(4)).await;
        fleet.world.revoke_all();
        sleep(Duration::from_secs(2)).await;
        rows.push(fleet.row("the store is emptied, then the token revoked", before));

        let before = fleet.world.tokens().fetches();
        std::fs::write(fleet.record(), "garbage")?;
        sleep(Duration::from_secs(4)).await;
        fleet.world.revoke_all();
        sleep(Duration::from_secs(2)).await;
        rows.push(fleet.row("the store is filled with garbage, then the token revoked", before));

        let before = fleet.world.tokens().fetches();
        fleet.world.tokens().fail(Failure::Status(503));
        sleep(Duration::from_secs(3)).await;
        fleet.world.tokens().recover();
        sleep(Duration::from_secs(2)).await;
        rows.push(fleet.row("the token service is down while the token is good", before));

        println!(
            "{:<58} {:>8} {:>8} {:>8} {:>12}",
            "", "fetches", "calls", "failed", "longest wait"
        );
        for row in rows {
            println!("{row}");
        }
        let [_, failed, _] = fleet.total();
        let is_lost = !fleet.can_still_refresh().await;
        println!("families lost: {}", u8::from(is_lost));
        Ok(ExitCode::from(u8::from(failed > 0 || is_lost)))
    }

    impl Fleet {
        async fn new() -> Result<Self, BoxError> {
            let world = World::start().await?;
            let directory = tempfile::tempdir()?;
            let api = world.api().origin();
            let environment = vec![
                (DIRECTORY, directory.path().join("tokens").to_string_lossy().into_owned()),
                // `openssl rand -base64 32` makes a real one.
                (SEAL, "5e".repeat(32)),
                (REFRESH_TOKEN, world.tokens().log_in()),
                (TOKEN_URL, world.tokens().url(Dialect::Rfc6749)),
                (API_URL, api),
            ];
            let (processes, tallies) = (Vec::new(), Vec::new());
            Ok(Self { directory, world, environment, processes, tallies })
        }

        fn record(&self) -> impl AsRef<Path> + use<> {
            self.directory.path().join("tokens").join("orders.token")
        }

        fn start(&mut self) -> Result<(), BoxError> {
            let mut child = Command::new(env::current_exe()?)
                .envs(self.environment.iter().map(|(name, value)| (name, value)))
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            let tally = Tally::default();
            let told = child.stdout.take().ok_or("the child has an output")?;
            tokio::spawn(follow(BufReader::new(told), Arc::clone(&tally)));
            self.processes.push(child);
            self.tallies.push(tally);
            Ok(())
        }

        /// `SIGKILL` for the oldest one.
        async fn kill(&mut self) -> Result<(), BoxError> {
            let mut oldest = self.processes.remove(0);
            Ok(oldest.kill().await?)
        }

        /// Calls, failures, and the longest wait in milliseconds, of all processes so far.
        fn total(&self) -> [u64; 3] {
            self.tallies.iter().fold([0; 3], |[calls, failed, longest], tally| {
                let tally = tally.lock().map_or([0; 3], |tally| *tally);
                [calls + tally[0], failed + tally[1], longest.max(tally[2])]
            })
        }

        fn row(&self, what: &str, fetches_before: u64) -> String {
            let fetches = self.world.tokens().fetches() - fetches_before;
            let [calls, failed, longest] = self.total();
            format!("{what:<58} {fetches:>8} {calls:>8} {failed:>8} {longest:>9} ms")
        }

        /// Whether the next renewal still brings a token that the API takes.
        async fn can_still_refresh(&mut self) -> bool {
            let before = self.world.api().accepted();
            self.world.revoke_all();
            sleep(Duration::from_secs(2)).await;
            self.world.api().accepted() > before
        }
    }

    async fn follow(mut told: BufReader<tokio::process::ChildStdout>, tally: Tally) {
        let mut line = String::new();
        while told.read_line(&mut line).await.is_ok_and(|read| read > 0) {
            let mut numbers = line.split_whitespace().map_while(|number| number.parse().ok());
            if let (Some(calls), Some(failed), Some(longest)) =
                (numbers.next(), numbers.next(), numbers.next())
            {
                if let Ok(mut tally) = tally.lock() {
                    *tally = [calls, failed, longest];
                }
            }
            line.clear();
        }
    }
}
