//! `--check`: fetches a token from every source.

use std::process::ExitCode;

use futures_util::future::join_all;
use tokio::time::Instant;
use tower_bearer::TokenCache;

use crate::{error::explain, plan::Plan, tokens::Tokens};

pub(crate) async fn run(plan: &Plan) -> ExitCode {
    let checks = plan.sources.iter().map(async |(name, tokens)| match tokens {
        Tokens::One(cache) => check(name, cache).await,
        Tokens::OfUsers(_) => {
            println!("{name}: skipped: it exchanges the tokens of users");
            true
        }
    });
    let is_well = join_all(checks).await.into_iter().all(|is_well| is_well);
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the result in one line.
async fn check(name: &str, cache: &TokenCache) -> bool {
    match cache.get().await {
        Ok(_) => {
            let left = cache.status().expiry().map(|end| end - Instant::now());
            match left {
                Some(left) => println!("{name}: ok, a token for {} s", left.as_secs()),
                None => println!("{name}: ok, a token without an expiry"),
            }
            true
        }
        Err(error) => {
            // The text begins with the name.
            println!("{}", explain(&error));
            false
        }
    }
}
