//! A fleet over a token endpoint whose refresh tokens rotate, and its files.
#![cfg(unix)]
#![allow(missing_docs)]

use std::{path::Path, time::Duration};

use http::Request;
use tower::{Layer, ServiceExt};
use tower_bearer::{
    BearerAuthLayer, TokenCache,
    oauth2::{ReqwestService, TokenEndpoint},
    shared::{FileStore, Seal, Shared},
    testing::World,
};

const SEAL: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// What each process of the fleet has, and what it has again after a restart.
fn process(world: &World, configured: &str, directory: &Path) -> Shared<TokenEndpoint> {
    let endpoint = world.tokens().endpoint().refresh_token(configured).build().unwrap();
    Shared::new(endpoint, FileStore::new(directory))
        .name("orders")
        .seal(Seal::new(SEAL))
        // Real disks, and other tests beside this one.
        .store_timeout(Duration::from_secs(5))
}

#[tokio::test]
async fn a_rotated_refresh_token_is_where_the_next_process_finds_it() {
    let world = World::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    let configured = world.tokens().log_in();
    // The first process exchanges what was configured; those after it find its token.
    let mut nth = 1;
    for restarts in 1..=3 {
        let (one, other) =
            (process(&world, &configured, &tokens), process(&world, &configured, &tokens));
        let (one, other) = (TokenCache::new(one), TokenCache::new(other));
        assert_eq!(one.get().await.unwrap().secret(), format!("t-{nth}"));
        one.refresh().await.unwrap();
        nth += 1;
        assert_eq!(one.get().await.unwrap().secret(), format!("t-{nth}"));
        other.get().await.unwrap();
        // By the other one's own chain the configured one would come next.
        other.refresh().await.unwrap();
        nth += 1;
        assert_eq!(other.get().await.unwrap().secret(), format!("t-{nth}"));
        assert_eq!(world.tokens().fetches(), 1 + 2 * restarts);
    }
}

#[tokio::test]
async fn a_revoked_token_is_renewed_once_for_all_processes_and_no_call_fails() {
    let world = World::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    let configured = world.tokens().log_in();
    let stacks: Vec<_> = (0..5)
        .map(|_| {
            let layer = BearerAuthLayer::new(process(&world, &configured, &tokens));
            layer.origin(world.api().origin()).unwrap().layer(ReqwestService::default())
        })
        .collect();
    for fetches in 1..=2 {
        let calls = stacks.iter().map(|stack| {
            let call = Request::get(world.api().url("/x")).body(String::new()).unwrap();
            stack.clone().oneshot(call)
        });
        for response in futures_util::future::join_all(calls).await {
            assert_eq!(response.unwrap().status(), 200);
        }
        assert_eq!(world.tokens().fetches(), fetches);
        world.revoke_all();
    }
}
