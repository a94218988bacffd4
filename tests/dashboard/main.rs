//! The guide's recipe for Prometheus gives the dashboard all that its panels ask for.

mod panels;
mod recipe {
    include!("recipe.rs");

    pub(super) fn run() -> PrometheusHandle {
        exporter().unwrap()
    }
}
#[path = "../common/api.rs"]
mod api;
#[path = "../common/mint.rs"]
mod mint;
#[path = "../common/scripted.rs"]
mod scripted;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join_all;
use http::Request;
use tower::{Layer, ServiceExt};
use tower_bearer::{BearerAuth, BearerAuthLayer, KeyedTokenCache, TokenKey, oauth2::TokenEndpoint};

use self::{
    api::Api,
    mint::Mint,
    scripted::{Scripted, answer, slow},
};

const API: &str = "https://api.example.com";

/// A token service that hands out `t1`, `t2`, …, until it refuses.
fn stack(api: &Api, refuses: &Arc<AtomicBool>) -> BearerAuth<Api> {
    let (issued, refuses) = (AtomicUsize::new(0), Arc::clone(refuses));
    let service = Scripted::always(move |_| {
        let step = if refuses.load(SeqCst) {
            answer(400, r#"{"error":"invalid_client"}"#)
        } else {
            let nth = issued.fetch_add(1, SeqCst) + 1;
            answer(200, format!(r#"{{"access_token":"t{nth}","expires_in":3600}}"#))
        };
        slow(Duration::from_millis(100), step)
    });
    let endpoint = TokenEndpoint::builder("https://auth.example.com/token");
    let endpoint = endpoint.client_id("a").client_secret("b").transport(service);
    BearerAuthLayer::new(endpoint.build().unwrap()).origin(API).unwrap().layer(api.clone())
}

async fn get(stack: &BearerAuth<Api>, uri: &str) -> Option<u16> {
    let request = Request::get(uri).body(String::new()).unwrap();
    stack.clone().oneshot(request).await.ok().map(|response| response.status().as_u16())
}

/// A key that is found, and one that pushes it out.
async fn use_keys() {
    let tokens = KeyedTokenCache::builder(Mint::default()).capacity(1).build().unwrap();
    for scope in ["a", "a", "b"] {
        tokens.get(&TokenKey::new().scope(scope)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn every_panel_of_the_dashboard_finds_its_series_and_labels() {
    let metrics = recipe::run();
    let (api, refuses) = (Api::new(), Arc::default());
    let stack = stack(&api, &refuses);
    join_all((0..3).map(|_| get(&stack, API))).await;
    api.revoke("t1");
    assert_eq!(get(&stack, API).await, Some(200), "renewed");
    api.revoke("t2");
    refuses.store(true, SeqCst);
    assert_eq!(get(&stack, API).await, Some(401), "not renewed");
    assert_eq!(get(&stack, API).await, Some(401), "suspect");
    assert_eq!(get(&stack, "https://unlisted.example").await, None);
    let rejecting = Api::new();
    rejecting.reject_all(true);
    assert_eq!(get(&self::stack(&rejecting, &Arc::default()), API).await, Some(401), "a backoff");

    use_keys().await;

    let scrape = metrics.render();
    let queries = panels::queries("tower_bearer_");
    let histograms = queries.iter().filter(|query| query.name.ends_with("_bucket"));
    assert_eq!((queries.len(), histograms.count()), (20, 6));
    let missing: Vec<_> = queries.iter().flat_map(|query| query.missing_in(&scrape)).collect();
    assert!(missing.is_empty(), "{missing:#?} in\n{scrape}");
    // It can tell.
    let summaries = scrape.replace("_bucket{", "{");
    let missing = queries.iter().flat_map(|query| query.missing_in(&summaries));
    assert_eq!(missing.count(), 6);
}

#[test]
fn what_runs_here_is_what_the_guide_says() {
    let guide = include_str!("../../src/guide/observability.md");
    assert!(guide.contains(include_str!("recipe.rs")));
}
