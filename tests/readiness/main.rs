//! The guide's readiness probe, as it is pasted: an orchestrator that sends no traffic before the
//! service is ready, and a token service that is down at the start.

mod recipe;

use std::time::Duration;

use axum::{Router, body::Body};
use futures_util::StreamExt;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tower::ServiceExt;
use tower_bearer::{
    RefreshPolicy, Status, TokenCache,
    testing::{Failure, World},
};

use self::recipe::readiness;

const BOUND: Duration = Duration::from_secs(30);

async fn bounded<T>(future: impl Future<Output = T>) -> T {
    timeout(BOUND, future).await.expect("within 30 s")
}

/// What the orchestrator sees.
async fn readyz(app: &Router) -> (StatusCode, String) {
    let request = Request::get("/readyz").body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn cache(world: &World) -> TokenCache {
    let policy = RefreshPolicy::builder().cooldown_max(Duration::from_millis(50)).build().unwrap();
    TokenCache::with_policy(world.tokens().endpoint().build().unwrap(), policy).named("orders")
}

/// Waits until the status of the cache is like that, without asking for a token.
async fn until(cache: &TokenCache, is_so: impl Fn(&Status) -> bool) {
    let mut seen = cache.subscribe().filter(|status| std::future::ready(is_so(status)));
    bounded(seen.next()).await.expect("the cache is there");
}

#[tokio::test]
async fn a_service_becomes_ready_without_traffic_once_the_token_service_is_up() {
    let world = World::start().await.unwrap();
    world.tokens().fail(Failure::Status(503));
    let cache = cache(&world);
    let app = readiness(cache.clone());
    assert_eq!(readyz(&app).await.0, StatusCode::SERVICE_UNAVAILABLE);

    until(&cache, |status| status.failures() == 3).await;
    let (code, line) = readyz(&app).await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    assert!(line.starts_with("orders: no token"), "{line}");
    assert!(line.contains("last error: the token endpoint http://127.0.0.1:"), "{line}");
    assert_eq!((line.lines().count(), world.tokens().issued()), (1, 0));

    world.tokens().recover();
    until(&cache, Status::has_token).await;
    let (code, line) = readyz(&app).await;
    assert_eq!(code, StatusCode::OK);
    assert!(line.starts_with("orders: a token for 35") && line.ends_with(" s"), "{line}");
}

#[tokio::test]
async fn a_service_that_is_not_asked_for_a_token_gets_one_all_the_same() {
    let world = World::start().await.unwrap();
    let cache = cache(&world);
    let app = readiness(cache.clone());
    until(&cache, Status::has_token).await;
    assert_eq!(readyz(&app).await.0, StatusCode::OK);
    assert_eq!(world.tokens().issued(), 1);
}

#[test]
fn what_runs_here_is_what_the_guide_says() {
    let (_, section) =
        include_str!("../../src/guide/failure.md").split_once("# Readiness\n").unwrap();
    let (_, block) = section.split_once("```\n").expect("a block");
    let (block, _) = block.split_once("```\n").expect("its end");
    assert_eq!(block, include_str!("recipe.rs").replace("pub(crate) ", ""));
}
