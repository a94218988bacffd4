//! How many asks one Redis takes in a second, and how large a record is: `benches/redis` starts one.
//!
//! ```text
//! asks <url>
//! ```

use std::{env, process::ExitCode, time::Duration};

use tokio::{runtime::Builder, task::JoinSet, time::Instant};
use tower_bearer::{
    AccessToken, Reason, TokenError, TokenRequest, TokenSource, from_fn,
    shared::{RedisStore, Seal, Shared, TokenStore},
};

const NAME: &str = "benchmark";
/// Connections, as of so many processes, and asks at a time over each.
const PROCESSES: usize = 20;
const AT_A_TIME: usize = 5;
const LENGTH: Duration = Duration::from_secs(5);
/// Of the access token and of the refresh token, in bytes.
const TOKENS: [usize; 2] = [1024, 64];

fn main() -> ExitCode {
    let Some(url) = env::args().nth(1) else {
        eprintln!("usage: asks <url>");
        return ExitCode::FAILURE;
    };
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(run(&url));
    ExitCode::SUCCESS
}

async fn run(url: &str) {
    let store = || RedisStore::new(url).expect("that is a URL of a server");
    fill(store()).await;
    let loaded = store().load(NAME).await.expect("it answers");
    let [token, refresh_token] = TOKENS;
    let len = loaded.sealed.expect("it was stored").len();
    println!("{len} bytes for a token of {token} and a refresh token of {refresh_token}");

    let end = Instant::now() + LENGTH;
    let mut asks = JoinSet::new();
    for _ in 0..PROCESSES {
        let store = store();
        for _ in 0..AT_A_TIME {
            asks.spawn(ask_until(end, store.clone()));
        }
    }
    let asks: u64 = asks.join_all().await.into_iter().sum();
    println!("{} asks a second over {PROCESSES} connections", asks / LENGTH.as_secs());
}

async fn fill(store: RedisStore) {
    let source = from_fn(|_| async {
        let [token, refresh_token] = TOKENS.map(|length| "a".repeat(length));
        let token = AccessToken::new(token).map_err(TokenError::permanent)?;
        Ok::<_, TokenError>(token.with_refresh_token(refresh_token))
    });
    let shared = Shared::new(source, store).name(NAME).seal(Seal::new("5e".repeat(32)));
    shared.fetch(TokenRequest::new(Reason::First)).await.expect("the source has a token");
}

/// One after the other.
async fn ask_until(end: Instant, store: RedisStore) -> u64 {
    let mut asks = 0;
    while Instant::now() < end {
        store.load(NAME).await.expect("it answers");
        asks += 1;
    }
    asks
}
