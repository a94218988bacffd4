//! Ten processes share one rotating refresh token while things go wrong.
//!
//! ```sh
//! cargo run --example fleet --features redis,testing
//! ```
//!
//! The program starts a token service and an API on loopback, and ten processes of itself. Together
//! they make 500 calls a second. They share their token over a `redis-server`, which the program
//! also starts, or over a `FileStore` if there is no `redis-server`. Then the program revokes the
//! token, kills processes and starts others, empties the store, fills it with garbage, and stops
//! Redis and the token service for a while. At the end it prints the number of fetches and failed
//! calls for each step. It exits with 1 if a call failed or if the token service revoked the
//! refresh token's family.
//!
//! Without this crate's `Shared` the second process to exchange the refresh token would have ended
//! its family.

#[cfg(unix)]
mod parent;
#[cfg(unix)]
mod place;
#[cfg(unix)]
mod process;

#[cfg(unix)]
#[tokio::main]
async fn main() -> Result<std::process::ExitCode, tower_bearer::BoxError> {
    if std::env::var_os(process::STORE).is_some() {
        process::run().await?;
        return Ok(std::process::ExitCode::SUCCESS);
    }
    parent::run().await
}

#[cfg(not(unix))]
fn main() {
    eprintln!("the fleet example runs on Unix only");
}
