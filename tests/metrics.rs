//! Feature `metrics`: every number counts what its name says, and the documentation and the
//! dashboard know the same names.

#[cfg(feature = "oauth2")]
#[path = "common/scripted.rs"]
mod scripted;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use http::{Request, Response};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_bearer::{AccessToken, BearerAuthLayer, RefreshPolicy, TokenCache, TokenError, from_fn};

const API: &str = "https://api.example.com";

/// What was counted: a number for `name{label=value,…}`; for a histogram, of its samples.
fn counted(snapshotter: &Snapshotter) -> BTreeMap<String, usize> {
    let entries = snapshotter.snapshot().into_vec().into_iter();
    let count = |value| match value {
        DebugValue::Counter(count) => usize::try_from(count).unwrap(),
        DebugValue::Histogram(samples) => samples.len(),
        DebugValue::Gauge(_) => panic!("there is no gauge"),
    };
    let named = entries.map(|(key, _, _, value)| {
        let (_, key) = key.into_parts();
        let labels: BTreeSet<_> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let labels = labels.into_iter().collect::<Vec<_>>().join(",");
        let name = key.name().strip_prefix("tower_bearer_").unwrap_or(key.name());
        (if labels.is_empty() { name.into() } else { format!("{name}{{{labels}}}") }, count(value))
    });
    named.collect()
}

/// A source whose failure can be set, and an API that accepts no revoked token.
#[derive(Clone, Default)]
struct World {
    minted: Arc<Mutex<usize>>,
    fails: Arc<Mutex<bool>>,
    /// Tokens up to this one are rejected.
    revoked: Arc<Mutex<usize>>,
}

impl World {
    fn stack(
        &self,
        name: Option<&str>,
    ) -> impl Service<Request<String>, Response = Response<String>, Error = BoxError> + Clone + use<>
    {
        let (minted, fails) = (Arc::clone(&self.minted), Arc::clone(&self.fails));
        let source = from_fn(move |_| {
            let fails = *fails.lock().unwrap();
            let mut minted = minted.lock().unwrap();
            *minted += 1;
            let nth = *minted;
            async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                if fails {
                    return Err(TokenError::permanent("no such client"));
                }
                let token = AccessToken::new(nth.to_string()).map_err(TokenError::permanent)?;
                Ok(token.with_lifetime(Duration::from_secs(1001)))
            }
        });
        let revoked = Arc::clone(&self.revoked);
        let api = tower::service_fn(move |request: Request<String>| {
            let line = request.headers()["authorization"].to_str().unwrap();
            let nth: usize = line.trim_start_matches("Bearer ").parse().unwrap();
            let status = if nth > *revoked.lock().unwrap() { 200 } else { 401 };
            async move { Ok::<_, BoxError>(Response::builder().status(status).body(String::new())?) }
        });
        let cache = TokenCache::with_policy(source, RefreshPolicy::default());
        let cache = cache.named(name.unwrap_or_default());
        BearerAuthLayer::from_cache(cache).origin(API).unwrap().layer(api)
    }
}

async fn get<S>(stack: &S, uri: &str) -> Option<u16>
where
    S: Service<Request<String>, Response = Response<String>, Error = BoxError> + Clone,
{
    let request = Request::get(uri).body(String::new()).unwrap();
    stack.clone().oneshot(request).await.ok().map(|response| response.status().as_u16())
}

#[tokio::test(start_paused = true)]
async fn the_numbers_of_requests_and_fetches_count_what_their_names_say() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::default();
    let stack = world.stack(Some("orders"));

    join_all((0..3).map(|_| get(&stack, API))).await;
    *world.revoked.lock().unwrap() = 1;
    assert_eq!(get(&stack, API).await, Some(200), "renewed");
    *world.revoked.lock().unwrap() = 2;
    *world.fails.lock().unwrap() = true;
    assert_eq!(get(&stack, API).await, Some(401), "not renewed");
    assert_eq!(get(&stack, API).await, Some(401), "suspect, and the source cools down");
    assert_eq!(get(&stack, "https://unlisted.example").await, None);

    let endless = World::default();
    *endless.revoked.lock().unwrap() = usize::MAX;
    let unfriendly = endless.stack(None);
    assert_eq!(get(&unfriendly, API).await, Some(401), "a backoff");

    let counted = counted(&snapshotter);
    let expected = [
        ("failed_renewals_total{source=default}", 1),
        ("failed_renewals_total{source=orders}", 2),
        ("fetch_seconds{reason=first,source=default}", 1),
        ("fetch_seconds{reason=first,source=orders}", 1),
        ("fetch_seconds{reason=rejected,source=default}", 1),
        ("fetch_seconds{reason=rejected,source=orders}", 2),
        ("fetches_total{outcome=ok,reason=first,source=default}", 1),
        ("fetches_total{outcome=ok,reason=first,source=orders}", 1),
        ("fetches_total{outcome=ok,reason=rejected,source=default}", 1),
        ("fetches_total{outcome=ok,reason=rejected,source=orders}", 1),
        ("fetches_total{outcome=permanent,reason=rejected,source=orders}", 1),
        ("refusals_total{reason=not_named}", 1),
        ("rejections_total{source=default}", 2),
        ("rejections_total{source=orders}", 3),
        ("replays_total{origin=https://api.example.com,outcome=answered,source=orders}", 1),
        ("replays_total{origin=https://api.example.com,outcome=rejected,source=default}", 1),
        ("shared_waits_total{source=orders}", 2),
        ("renewal_backoffs_total{source=default}", 1),
        ("suspect_uses_total{source=orders}", 1),
        ("token_left_seconds{source=orders}", 3),
        ("wait_seconds{source=default}", 2),
        ("wait_seconds{source=orders}", 5),
    ];
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    assert_eq!(counted, expected);
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_fails_is_counted_and_so_is_what_a_token_has_left() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let cache = TokenCache::new(from_fn(|request| async move {
        let secret = if request.previous().is_some() { "second" } else { "first" };
        let token = AccessToken::new(secret).map_err(TokenError::permanent)?;
        Ok(token.with_lifetime(Duration::from_secs(1001)))
    }));
    let api = tower::service_fn(|request: Request<String>| async move {
        if request.headers()["authorization"] == "Bearer second" {
            return Err(BoxError::from("cut"));
        }
        Ok(Response::builder().status(401).body(String::new())?)
    });
    let stack = BearerAuthLayer::from_cache(cache.clone()).origin(API).unwrap().layer(api);
    cache.get().await.unwrap();
    tokio::time::advance(Duration::from_secs(100)).await;
    cache.get().await.unwrap();
    assert_eq!(get(&stack, API).await, None);

    let mut left = Vec::new();
    let mut replays = Vec::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let (_, key) = key.into_parts();
        match (key.name(), value) {
            ("tower_bearer_token_left_seconds", DebugValue::Histogram(samples)) => {
                left.extend(samples.iter().map(|sample| sample.into_inner()));
            }
            ("tower_bearer_replays_total", DebugValue::Counter(count)) => {
                let outcome = key.labels().find(|label| label.key() == "outcome").unwrap();
                replays.push((outcome.value().to_owned(), count));
            }
            _ => {}
        }
    }
    assert_eq!(replays, [("failed".to_owned(), 1)]);
    // A second less is counted than was said, and a margin of ten before the end.
    assert!(left.iter().all(|left| (880.0..=1000.0).contains(left)), "{left:?}");
    assert!(left.iter().any(|left| (left - 890.0).abs() < 2.0), "{left:?}");
}

#[cfg(feature = "oauth2")]
#[tokio::test]
async fn what_a_token_endpoint_says_is_counted_by_known_codes() {
    use self::scripted::Scripted;
    use tower_bearer::oauth2::TokenEndpoint;

    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    for (error, name) in [("invalid_client", "billing"), ("a secret that is no code", "")] {
        let transport = Scripted::refusing(400, error);
        let endpoint = TokenEndpoint::builder("https://auth.example.com/token");
        let endpoint = endpoint.client_id("a").client_secret("b").transport(transport);
        let endpoint = endpoint.name("of the endpoint").build().unwrap();
        TokenCache::new(endpoint).named(name).get().await.unwrap_err();
    }
    let counted = counted(&snapshotter);
    assert_eq!(counted["endpoint_errors_total{error=invalid_client,source=billing}"], 1);
    assert_eq!(counted["endpoint_errors_total{error=other,source=of the endpoint}"], 1);
}

const PREFIX: &str = "tower_bearer_";

/// Every name of ours in a text.
fn names_in(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = text.split(|c: char| !is_name(c));
    // The bare prefix is no name.
    let names = words.filter(|word| word.len() > PREFIX.len() && word.starts_with(PREFIX));
    // What an exporter makes of a histogram.
    names.map(|name| name.strip_suffix("_bucket").unwrap_or(name).to_owned()).collect()
}

/// Every name that an exporter is told, each with a help text.
fn described() -> BTreeSet<String> {
    use metrics::{
        Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };

    #[derive(Default)]
    struct Names(Mutex<BTreeSet<String>>);
    impl Names {
        fn add(&self, name: &KeyName, unit: Option<Unit>, text: &SharedString) {
            assert!(unit.is_some() && !text.is_empty());
            assert!(self.0.lock().unwrap().insert(name.as_str().to_owned()), "{name:?} twice");
        }
    }
    impl Recorder for Names {
        fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
            self.add(&name, unit, &text);
        }
        fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
            self.add(&name, unit, &text);
        }
        fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
            self.add(&name, unit, &text);
        }
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    let names = Names::default();
    metrics::with_local_recorder(&names, tower_bearer::describe_metrics);
    names.0.into_inner().unwrap()
}

#[test]
fn the_documentation_and_the_dashboard_know_the_same_names() {
    let described = described();
    assert_eq!(described.len(), 16);
    assert_eq!(
        names_in(include_str!("../src/guide/observability.md")),
        described,
        "the table in the guide"
    );
    let dashboard = include_str!("../examples/sidecar/dashboard.json");
    serde_json::from_str::<serde_json::Value>(dashboard).expect("the dashboard is JSON");
    assert_eq!(names_in(dashboard), described, "the dashboard");
    for query in dashboard.lines().filter(|line| line.contains("\"expr\"")) {
        let is_ours = query.contains("tower_bearer_") && !query.contains("_refusals_");
        assert_eq!(query.contains(r#"{source=~\"$source\""#), is_ours, "{query}");
    }
}
