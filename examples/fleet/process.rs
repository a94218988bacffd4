//! One process of the fleet.

use std::{env, time::Duration};

use http::Request;
use tokio::time::{Instant, interval};
use tower::{Layer, ServiceExt};
use tower_bearer::{
    BearerAuthLayer, BoxError, Secret,
    oauth2::{ReqwestService, TokenEndpoint},
    shared::{FileStore, RedisStore, Seal, Shared},
    testing::{CLIENT_ID, CLIENT_SECRET},
};

/// The variable with the store: the URL of a Redis server, or a directory. Only the processes of
/// the fleet have it.
pub(crate) const STORE: &str = "FLEET_STORE";
pub(crate) const SEAL: &str = "FLEET_SEAL";
pub(crate) const REFRESH_TOKEN: &str = "FLEET_REFRESH_TOKEN";
pub(crate) const TOKEN_URL: &str = "FLEET_TOKEN_URL";
pub(crate) const API_URL: &str = "FLEET_API_URL";

/// The name of the record in the store.
pub(crate) const NAME: &str = "orders";
/// The time between two calls of one process: 50 calls a second.
const PACE: Duration = Duration::from_millis(20);

/// Calls the API until the parent kills the process. Four times a second it prints the number of
/// calls, the number of failures, and the longest wait since the last line in milliseconds.
pub(crate) async fn run() -> Result<(), BoxError> {
    let endpoint = TokenEndpoint::builder(env::var(TOKEN_URL)?)
        .client_id(CLIENT_ID)
        .client_secret(CLIENT_SECRET)
        // Only the first process sends this one. After that the store has the newest.
        .refresh_token(Secret::env(REFRESH_TOKEN))
        .build()?;
    let store = env::var(STORE)?;
    let shared = if store.starts_with("redis://") {
        Shared::new(endpoint, RedisStore::new(store)?)
    } else {
        Shared::new(endpoint, FileStore::new(store))
    };
    let shared = shared.name(NAME).seal(Seal::new(Secret::env(SEAL)));
    let url = env::var(API_URL)?;
    let api = BearerAuthLayer::new(shared).origin(&url)?.layer(ReqwestService::default());

    let (mut calls, mut failed, mut longest) = (0_u32, 0_u32, Duration::ZERO);
    let mut pace = interval(PACE);
    let mut reported = Instant::now();
    loop {
        pace.tick().await;
        let request = Request::get(format!("{url}/orders")).body(String::new())?;
        let began = Instant::now();
        let outcome = api.clone().oneshot(request).await;
        longest = longest.max(began.elapsed());
        calls += 1;
        failed += u32::from(!outcome.is_ok_and(|response| response.status() == 200));
        if reported.elapsed() > Duration::from_millis(250) {
            println!("{calls} {failed} {}", longest.as_millis());
            (longest, reported) = (Duration::ZERO, Instant::now());
        }
    }
}
