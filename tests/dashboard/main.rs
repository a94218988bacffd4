//! The guide's recipe for Prometheus gives the dashboard all that its panels ask for.

mod panels;
mod recipe {
    include!("recipe.rs");

    pub(super) fn run() -> PrometheusHandle {
        exporter().unwrap()
    }
}
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
use http::{Request, Response};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_bearer::{
    AccessToken, BearerAuthLayer, KeyedTokenCache, TokenError, TokenKey, from_fn,
    oauth2::TokenEndpoint,
};

use self::scripted::{Scripted, answer, slow};

const API: &str = "https://api.example.com";

/// A token service that can be told to refuse, and an API that rejects every token up to one.
#[derive(Clone, Default)]
struct World {
    issued: Arc<AtomicUsize>,
    refuses: Arc<AtomicBool>,
    revoked: Arc<AtomicUsize>,
}

impl World {
    fn stack(
        &self,
    ) -> impl Service<Request<String>, Response = Response<String>, Error = BoxError> + Clone + use<>
    {
        let (issued, refuses) = (Arc::clone(&self.issued), Arc::clone(&self.refuses));
        let service = Scripted::always(move |_| {
            let step = if refuses.load(SeqCst) {
                answer(400, r#"{"error":"invalid_client"}"#)
            } else {
                let nth = issued.fetch_add(1, SeqCst) + 1;
                answer(200, format!(r#"{{"access_token":"{nth}","expires_in":3600}}"#))
            };
            slow(Duration::from_millis(100), step)
        });
        let endpoint = TokenEndpoint::builder("https://auth.example.com/token");
        let endpoint = endpoint.client_id("a").client_secret("b").transport(service);
        let revoked = Arc::clone(&self.revoked);
        let api = service_fn(move |request: Request<String>| {
            let line = request.headers()["authorization"].to_str().unwrap();
            let nth: usize = line.trim_start_matches("Bearer ").parse().unwrap();
            let status = if nth > revoked.load(SeqCst) { 200 } else { 401 };
            async move { Ok::<_, BoxError>(Response::builder().status(status).body(String::new())?) }
        });
        BearerAuthLayer::new(endpoint.build().unwrap()).origin(API).unwrap().layer(api)
    }
}

async fn get<S>(stack: &S, uri: &str) -> Option<u16>
where
    S: Service<Request<String>, Response = Response<String>, Error = BoxError> + Clone,
{
    let request = Request::get(uri).body(String::new()).unwrap();
    stack.clone().oneshot(request).await.ok().map(|response| response.status().as_u16())
}

/// A key that is found, and one that pushes it out.
async fn use_keys() {
    let source = from_fn(|_| async { AccessToken::new("a").map_err(TokenError::permanent) });
    let tokens = KeyedTokenCache::builder(source).capacity(1).build().unwrap();
    for scope in ["a", "a", "b"] {
        tokens.get(&TokenKey::new().scope(scope)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn every_panel_of_the_dashboard_finds_its_series_and_labels() {
    let metrics = recipe::run();
    let world = World::default();
    let stack = world.stack();
    join_all((0..3).map(|_| get(&stack, API))).await;
    world.revoked.store(1, SeqCst);
    assert_eq!(get(&stack, API).await, Some(200), "renewed");
    world.revoked.store(2, SeqCst);
    world.refuses.store(true, SeqCst);
    assert_eq!(get(&stack, API).await, Some(401), "not renewed");
    assert_eq!(get(&stack, API).await, Some(401), "suspect");
    assert_eq!(get(&stack, "https://unlisted.example").await, None);
    let endless = World::default();
    endless.revoked.store(usize::MAX, SeqCst);
    assert_eq!(get(&endless.stack(), API).await, Some(401), "a backoff");

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
