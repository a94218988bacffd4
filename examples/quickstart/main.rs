//! The main job from end to end, without a network and without an account.
//!
//! ```text
//! cargo run --example quickstart
//! ```
//!
//! starts a token service and a protected API on this machine. A client stack calls the API while
//! there is no token, while a token is revoked, while tokens expire, and while the token service is
//! down. The program checks what should happen, and exits with 1 if a check fails.
//!
//! ```text
//! CLIENT_ID=… CLIENT_SECRET=… cargo run --example quickstart -- \
//!     --token-url https://auth.example.com/oauth/token --api-url https://api.example.com/v1/me
//! ```
//!
//! makes a few calls to a real API, with the scope in `SCOPE` if it is set. `--html report.html`
//! also writes the report as a page. `--against-mutex` compares the layer with hand-written code.
//! With `RUST_LOG=debug` the stack logs to standard error.
//!
//! `stack.rs` has the code to copy into your program.

mod api;
mod args;
mod chart;
mod gate;
mod load;
mod markup;
mod mutex;
mod page;
mod phase;
mod phases;
mod real;
mod report;
mod serve;
mod stack;
mod timeline;
mod token_service;

use std::{fs, io, path::PathBuf, process::ExitCode};

use tower_bearer::BoxError;
use tracing_subscriber::EnvFilter;

use self::{
    args::{Command, Show, USAGE},
    page::page,
    phases::against_mutex,
    report::explain,
};

#[tokio::main]
async fn main() -> ExitCode {
    let command = match Command::from_args(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("quickstart: {error}");
            return ExitCode::from(2);
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();

    let done = match command {
        Command::Help => {
            println!("{USAGE}");
            Ok(true)
        }
        Command::Run { show, html } => run(show, html).await,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quickstart: {}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Makes the report. Returns whether all checks passed.
async fn run(show: Show, html: Option<PathBuf>) -> Result<bool, BoxError> {
    let report = match &show {
        Show::Demonstration => phases::run().await?,
        Show::AgainstMutex => against_mutex::run().await?,
        Show::Real(target) => real::run(target).await?,
    };
    report.print_table();
    report.print_verdict();
    if matches!(show, Show::Demonstration) && report.is_good() {
        println!("The stack is in examples/quickstart/stack.rs. RUST_LOG=debug shows its log.");
    }
    if let Some(path) = html {
        let written = fs::write(&path, page(&report));
        written.map_err(|error| format!("{}: {error}", path.display()))?;
        println!("The report with its charts is in {}.", path.display());
    }
    Ok(report.is_good())
}
