//! `--check`: whether every source has a token to give.

use std::process::ExitCode;

use futures_util::future::join_all;
use tokio::time::Instant;
use tower_bearer::TokenCache;

use crate::{error::explain, plan::Plan, tokens::Tokens};

pub(crate) async fn run(plan: &Plan) -> ExitCode {
    let checks = plan.sources.iter().map(async |(name, tokens)| match tokens {
        Tokens::One(cache) => check(name, cache).await,
        Tokens::OfUsers(_) => {
            println!("{name}: not tried, it exchanges the tokens of users, and there is none here");
            true
        }
    });
    let is_well = join_all(checks).await.into_iter().all(|is_well| is_well);
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says in one line how it went.
async fn check(name: &str, cache: &TokenCache) -> bool {
    match cache.get().await {
        Ok(_) => {
            let left = cache.status().expiry().map(|end| end - Instant::now());
            match left {
                Some(left) => println!("{name}: ok, a token for {} s", left.as_secs()),
                None => println!("{name}: ok, a token that does not say when it expires"),
            }
            true
        }
        Err(error) => {
            // It begins with the name.
            println!("{}", explain(&error));
            false
        }
    }
}
