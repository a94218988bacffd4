//! The main job from end to end, without a network and without an account.
//!
//! ```text
//! cargo run --example quickstart
//! ```
//!
//! starts a token service and a protected API on this machine and has a client stack call the
//! API while tokens are missing, are revoked, expire, and cannot be had. It exits with 1 if
//! anything did not happen that should have.
//!
//! ```text
//! CLIENT_ID=… CLIENT_SECRET=… cargo run --example quickstart -- \
//!     --token-url https://auth.example.com/oauth/token --api-url https://api.example.com/v1/me
//! ```
//!
//! makes a few calls to a real API (`SCOPE` is heeded too). With `RUST_LOG=debug` the stack's
//! tracing goes to the standard error.
//!
//! What is worth copying is in `stack.rs`.

mod api;
mod args;
mod gate;
mod load;
mod phases;
mod real;
mod report;
mod serve;
mod stack;
mod token_service;

use std::{io, process::ExitCode};

use tracing_subscriber::EnvFilter;

use self::{
    args::{Command, USAGE},
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
        Command::Demonstrate => phases::run().await,
        Command::Call(target) => real::run(&target).await,
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
