//! How much memory a cache and the requests that wait for it hold, exactly. Each thread counts its
//! own.

#[path = "common/heap.rs"]
mod heap;

use std::{convert::Infallible, future::pending, time::Duration};

use http::{Request, Response};
use tokio::task::JoinSet;
use tower::{Layer, ServiceExt};
use tower_bearer::{AccessToken, BearerAuthLayer, TokenCache, TokenError, from_fn};

const TOKEN: usize = 1024;
const COUNT: usize = 1000;

async fn filled() -> TokenCache {
    let cache = TokenCache::new(from_fn(|_| async {
        let token = AccessToken::new("a".repeat(TOKEN)).map_err(TokenError::permanent)?;
        Ok(token.with_lifetime(Duration::from_secs(3600)))
    }));
    cache.get().await.unwrap();
    cache
}

#[tokio::test]
async fn a_cache_at_rest_holds_its_token_and_less_than_a_kibibyte() {
    // What all caches share.
    drop(filled().await);
    let mut caches = Vec::with_capacity(COUNT);
    let before = heap::live();
    for _ in 0..COUNT {
        caches.push(filled().await);
    }
    let each = (heap::live() - before) / COUNT;
    assert!((TOKEN..TOKEN + 1024).contains(&each), "{each}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_its_token_holds_less_than_1_4_kibibytes() {
    let api = tower::service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(())));
    let cache = TokenCache::new(from_fn(|_| pending::<Result<AccessToken, TokenError>>()));
    let layer = BearerAuthLayer::from_cache(cache).origin("https://api.example.com").unwrap();
    let service = layer.layer(api);
    let mut requests = JoinSet::new();
    let before = heap::live();
    for _ in 0..COUNT {
        let request = Request::get("https://api.example.com").body(String::new()).unwrap();
        requests.spawn(service.clone().oneshot(request));
    }
    // Time is paused: it passes when all of them wait.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let each = (heap::live() - before) / COUNT;
    assert!((1000..1434).contains(&each), "{each}");
}
