//! Holding, revoking, counting, and the end of it all.

use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tower_bearer::testing::World;

use super::support::{Stack, address, bounded, call, fetch, get, raw, stack, token_address, world};

#[tokio::test]
async fn callers_share_the_fetch_that_is_held_and_go_on_when_it_is_released() {
    let world = world().await;
    let stack = stack(&world, world.tokens().endpoint());
    let held = world.tokens().hold();
    let mut calls = spawn_calls(10, &stack, &world);
    bounded(world.tokens().until_fetches(1)).await;
    assert_eq!((world.tokens().issued(), world.api().calls()), (0, 0));
    held.release();
    while let Some(status) = bounded(calls.join_next()).await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    assert_eq!((world.tokens().fetches(), world.api().accepted()), (1, 10));
}

#[tokio::test]
async fn a_token_revoked_with_100_calls_in_flight_costs_one_fetch_and_no_call() {
    let world = world().await;
    let stack = stack(&world, world.tokens().endpoint());
    call(&stack, world.api().url("/"), "").await;
    let held = world.api().hold();
    let mut calls = spawn_calls(100, &stack, &world);
    bounded(world.api().until_calls(101)).await;
    world.revoke_all();
    held.release();
    while let Some(status) = bounded(calls.join_next()).await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    assert_eq!(world.tokens().fetches(), 2);
    assert_eq!((world.api().accepted(), world.api().rejected()), (101, 100));
}

fn spawn_calls(count: usize, stack: &Stack, world: &World) -> JoinSet<StatusCode> {
    let mut calls = JoinSet::new();
    for n in 0..count {
        let (stack, url) = (stack.clone(), world.api().url(&format!("/{n}")));
        calls.spawn(async move { call(&stack, url, "a body that is sent again").await.0 });
    }
    calls
}

#[tokio::test]
async fn one_revoked_token_is_rejected_and_the_other_is_not() {
    let world = world().await;
    for _ in 0..2 {
        fetch(world.tokens().endpoint()).await.unwrap();
    }
    world.revoke("t-1");
    let api = address(&world.api().origin());
    let answer = raw(api, get("Authorization: Bearer t-1\r\n")).await;
    assert!(answer.contains("error_description=\"the access token was revoked\""), "{answer}");
    assert!(raw(api, get("Authorization: bearer t-2\r\n")).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn the_tokens_of_one_world_are_distinguished_from_those_of_another() {
    let (here, there) = (world().await, World::start_named("there").await.unwrap());
    let token = fetch(there.tokens().endpoint()).await.unwrap();
    fetch(here.tokens().endpoint()).await.unwrap();
    assert_eq!((token.secret(), there.tokens().log_in().as_str()), ("there-t-1", "there-r-1"));
    let line = "Authorization: Bearer there-t-1\r\n";
    let api = |world: &World| address(&world.api().origin());
    assert!(raw(api(&here), get(line)).await.starts_with("HTTP/1.1 401 "));
    assert!(raw(api(&there), get(line)).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_dropped_world_closes_its_connections_and_takes_no_more() {
    let world = world().await;
    let addresses = [token_address(&world), address(&world.api().origin())];
    let mut open = Vec::new();
    for address in addresses {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(bounded(stream.read(&mut [0; 16])).await.unwrap() > 0, "it is served");
        open.push(stream);
    }
    // A request that waits is no reason to stay.
    let _held = world.tokens().hold();
    drop(world);
    for (address, mut stream) in addresses.into_iter().zip(open) {
        let _ = bounded(stream.read_to_end(&mut Vec::new())).await;
        assert!(TcpStream::connect(address).await.is_err());
    }
}
