//! One refresh token that rotates, ten processes that share it, and a bad day.
//!
//! ```sh
//! cargo run --example fleet --features redis,testing
//! ```
//!
//! It starts a token service and an API on loopback, and ten processes of itself that make 500
//! calls a second together. They share their token over a `redis-server` that it starts too, or
//! over a `FileStore` if it finds none. Then it revokes the token, kills processes and starts
//! others, empties the store, fills it with garbage, stops Redis and the token service for a while.
//! At the end it prints what that has cost, and exits with 1 if a call failed or the refresh token's
//! family was lost.
//!
//! Beside ten processes without this crate's `Shared`: the second exchange of a refresh token would
//! have ended its family.

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
    eprintln!("the store in files is for Unix alone");
}
