//! One process of a fleet: this program again, by a variable of its environment.

use std::{
    env, fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tower_bearer::{
    AccessToken, Secret, TokenCache, TokenError, TokenRequest, TokenSource,
    shared::{FileStore, RedisStore, Seal, Shared},
};

use crate::{
    servers::{endpoint, secret_of},
    stack::Caller,
};

/// The id of the fleet's client, if this is a process of one.
pub(crate) const CLIENT: &str = "INTEROP_FLEET_CLIENT";
/// The URL of a Redis server, or a directory.
pub(crate) const STORE: &str = "INTEROP_FLEET_STORE";
/// Where the refresh token of the login is, and files that say what a process shall do.
pub(crate) const DIRECTORY: &str = "INTEROP_FLEET_DIRECTORY";

const LOGIN: &str = "login";
/// A process that takes this file reports its next exchange, and never stores the answer.
pub(crate) const CUT: &str = "cut";
/// A process that takes this file reports its next exchange, and stores the answer a little later.
pub(crate) const TELL: &str = "tell";

const SEAL: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const LEASE: Duration = Duration::from_secs(3);
const STORE_TIMEOUT: Duration = Duration::from_millis(500);
/// Between two calls.
const PACE: Duration = Duration::from_millis(200);

/// The endpoint, and points at which a test stops or kills the process.
pub(crate) struct Source<S> {
    endpoint: S,
    directory: PathBuf,
}

impl<S: TokenSource> TokenSource for Source<S> {
    async fn fetch(&self, request: TokenRequest) -> Result<AccessToken, TokenError> {
        let token = self.endpoint.fetch(request).await?;
        let takes = |file| fs::remove_file(self.directory.join(file)).is_ok();
        if takes(CUT) {
            println!("member: exchanged");
            std::future::pending::<()>().await;
        }
        if takes(TELL) {
            println!("member: exchanged");
            sleep(Duration::from_millis(500)).await;
        }
        Ok(token)
    }

    fn is_repeatable(&self) -> bool {
        self.endpoint.is_repeatable()
    }

    fn attempt_timeout(&self) -> Option<Duration> {
        self.endpoint.attempt_timeout()
    }
}

pub(crate) fn log_in(directory: &std::path::Path, refresh_token: &str) {
    fs::write(directory.join(LOGIN), refresh_token).unwrap();
}

/// A cache as each process of that fleet has one.
pub(crate) fn cache(client: &str, store: &str, directory: PathBuf) -> TokenCache {
    let endpoint = endpoint(client, &secret_of(client))
        .refresh_token(Secret::file(directory.join(LOGIN)))
        .build()
        .unwrap();
    let source = Source { endpoint, directory };
    let shared = if store.starts_with("redis://") {
        Shared::new(source, RedisStore::new(store).unwrap())
    } else {
        Shared::new(source, FileStore::new(store))
    };
    TokenCache::new(
        shared.name("fleet").seal(Seal::new(SEAL)).lease(LEASE).store_timeout(STORE_TIMEOUT),
    )
}

/// Calls the API until it is killed, and tells of each call how it went and how long it took.
#[tokio::test]
async fn a_process_of_a_fleet_if_it_is_one() {
    let Ok(client) = env::var(CLIENT) else { return };
    let (store, directory) = (env::var(STORE).unwrap(), env::var(DIRECTORY).unwrap());
    let caller = Caller::new(&cache(&client, &store, directory.into()));
    loop {
        let began = Instant::now();
        let outcome = match caller.call().await {
            Ok(call) if call.head.status == 200 => "ok".to_owned(),
            Ok(call) => call.head.status.to_string(),
            Err(error) => error.to_string(),
        };
        println!("member: call {} {outcome}", began.elapsed().as_millis());
        sleep(PACE).await;
    }
}
