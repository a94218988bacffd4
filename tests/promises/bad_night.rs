//! The log of a bad night, read from top to bottom, tells the story: what fails, how long it is
//! left alone, and when it is well again.

use tokio::time::{advance, sleep};
use tower::Layer;

use crate::support::*;

/// What an operator sees at level `info`, without the time of day.
fn told(log: &str) -> Vec<String> {
    let event = |line: &str| {
        let level = ["WARN", "INFO"].into_iter().find(|level| line.contains(level))?;
        let (_, event) = line.split_once("tower_bearer: ")?;
        Some(format!("{level} {event}"))
    };
    log.lines().filter_map(event).collect()
}

/// The log that the guide shows.
fn guide() -> Vec<&'static str> {
    let (_, section) =
        include_str!("../../src/guide/observability.md").split_once("a bad night").unwrap();
    let (_, block) = section.split_once("```text\n").expect("a block");
    let (block, _) = block.split_once("```").expect("its end");
    block.lines().map(str::trim).collect()
}

#[tokio::test(start_paused = true)]
async fn the_log_of_a_bad_night_tells_what_fails_and_when_it_is_well_again() {
    let log = Log::start();
    let mint = Mint::living(101 * S);
    let cache = cache(mint.clone()).named("orders");
    let api = Api::new();
    let stack = layer(&cache).layer(tower::ServiceBuilder::new().service(api.clone()));
    let call = async || send(&stack, get("/")).await.unwrap().status().as_u16();
    assert_eq!(call().await, 200);
    cache.keep_warm();

    // The token service is down when the token is due, and no request comes.
    mint.fail_with(busy());
    sleep(84 * S).await;
    mint.fail_with(None);
    sleep(4 * S).await;
    assert_eq!(call().await, 200);

    // The token is revoked.
    api.revoke("t5");
    assert_eq!(call().await, 200);

    // The API rejects every token, fresh ones too. Then it recovers.
    api.reject_all(true);
    assert_eq!(call().await, 401);
    advance(5 * S).await;
    assert_eq!(call().await, 401);
    api.reject_all(false);
    assert_eq!(call().await, 200);
    assert_eq!(call().await, 200);

    let log = log.text();
    let told = told(&log);
    println!("{}", told.join("\n"));
    assert_eq!(told, guide());
}
