//! Feature `metrics`: every number counts what its name says, and the documentation and the
//! dashboard know the same names.

#[path = "common/api.rs"]
mod api;
#[path = "common/mint.rs"]
mod mint;
#[cfg(feature = "oauth2")]
#[path = "common/scripted.rs"]
mod scripted;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use futures_util::future::join_all;
use http::{Request, Response};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_bearer::{
    BearerAuth, BearerAuthLayer, KeyedTokenCache, TokenCache, TokenError, TokenKey,
};

use self::{api::Api, mint::Mint};

const API: &str = "https://api.example.com";

/// What was counted: a number for `name{label=value,…}`; for a histogram, of its samples.
fn counted(snapshotter: &Snapshotter) -> BTreeMap<String, usize> {
    let entries = snapshotter.snapshot().into_vec().into_iter();
    let count = |value| match value {
        DebugValue::Counter(count) => usize::try_from(count).unwrap(),
        DebugValue::Histogram(samples) => samples.len(),
        DebugValue::Gauge(count) => count.to_string().parse().unwrap(),
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

fn stack(mint: &Mint, api: &Api, name: &str) -> BearerAuth<Api> {
    let cache = TokenCache::new(mint.clone()).named(name);
    BearerAuthLayer::from_cache(cache).origin(API).unwrap().layer(api.clone())
}

/// A source whose tokens live for long, and whose fetches take a tenth of a second.
fn mint() -> Mint {
    let mint = Mint::living(Duration::from_secs(1001));
    mint.delay_by(Duration::from_millis(100));
    mint
}

async fn get<S, B>(stack: &S, uri: &str) -> Option<u16>
where
    S: Service<Request<String>, Response = Response<B>, Error = BoxError> + Clone,
{
    let request = Request::get(uri).body(String::new()).unwrap();
    stack.clone().oneshot(request).await.ok().map(|response| response.status().as_u16())
}

#[tokio::test(start_paused = true)]
async fn the_numbers_of_requests_and_fetches_count_what_their_names_say() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (mint, api) = (mint(), Api::new());
    let stack = stack(&mint, &api, "orders");

    join_all((0..3).map(|_| get(&stack, API))).await;
    api.revoke("t1");
    assert_eq!(get(&stack, API).await, Some(200), "renewed");
    api.revoke("t2");
    mint.fail_with(TokenError::permanent("no such client"));
    assert_eq!(get(&stack, API).await, Some(401), "not renewed");
    assert_eq!(get(&stack, API).await, Some(401), "suspect, and the source cools down");
    assert_eq!(get(&stack, "https://unlisted.example").await, None);

    let rejecting = Api::new();
    rejecting.reject_all(true);
    let unnamed = self::stack(&self::mint(), &rejecting, "");
    assert_eq!(get(&unnamed, API).await, Some(401), "a backoff");

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
async fn the_numbers_of_keys_count_what_their_names_say() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let tokens = KeyedTokenCache::builder(Mint::default()).capacity(2).build().unwrap();
    let key = |scope: &str| TokenKey::new().scope(scope);
    // The third key pushes one out.
    for scope in ["a", "a", "a", "b", "c"] {
        tokens.get(&key(scope)).await.unwrap();
    }
    tokens.forget(&key("c"));

    let mut counted = counted(&snapshotter);
    counted.retain(|name, _| name.starts_with("key"));
    let expected = [
        ("key_evictions_total{reason=capacity,source=default}", 1),
        ("key_evictions_total{reason=forgotten,source=default}", 1),
        ("key_hits_total{source=default}", 2),
        ("key_misses_total{source=default}", 3),
        ("keys{source=default}", 1),
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
    let cache = TokenCache::new(Mint::living(Duration::from_secs(1001)));
    let api = tower::service_fn(|request: Request<String>| async move {
        if request.headers()["authorization"] == "Bearer t2" {
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

/// Every name that the crate describes to an exporter, each with a help text.
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
