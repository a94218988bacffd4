//! What the tokens cost: the same program with the layer and without it, side by side.

use std::time::{Duration, Instant};

use axum::{Router, body::Body};
use futures_util::future::join_all;
use http::Request;
use http_body_util::BodyExt;
use hyper_util::client::legacy::{Client, connect::HttpConnector};

use crate::support::{Sidecar, Tokens, client, serve};

const WARM_UP: usize = 500;
const ROUNDS: usize = 10;
const CALLS_ONE_BY_ONE: usize = 1000;
const CALLS_AT_ONCE: usize = 32;
const CALLS_EACH: usize = 200;

/// A client with its connections, and where it calls.
struct Caller {
    client: Client<HttpConnector, Body>,
    url: String,
    body: &'static str,
    one_by_one: Vec<Duration>,
    at_once: Vec<f64>,
}

impl Caller {
    fn new(sidecar: &Sidecar, body: &'static str) -> Self {
        let url = sidecar.url("/api/v1");
        Self { client: client(), url, body, one_by_one: Vec::new(), at_once: Vec::new() }
    }

    async fn call(&self) -> Duration {
        let started = Instant::now();
        let request = Request::post(&self.url).body(Body::from(self.body)).expect("a request");
        let response = self.client.request(request).await.expect("there is an answer");
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.expect("it is whole");
        started.elapsed()
    }

    async fn one(&mut self) {
        let took = self.call().await;
        self.one_by_one.push(took);
    }

    async fn many(&mut self) {
        let started = Instant::now();
        let caller = &*self;
        join_all((0..CALLS_AT_ONCE).map(|_| async move {
            for _ in 0..CALLS_EACH {
                caller.call().await;
            }
        }))
        .await;
        #[expect(clippy::cast_precision_loss, reason = "a few thousand calls")]
        self.at_once.push((CALLS_AT_ONCE * CALLS_EACH) as f64 / started.elapsed().as_secs_f64());
    }

    fn report(&mut self, name: &str) -> String {
        self.one_by_one.sort();
        self.at_once.sort_by(f64::total_cmp);
        let at = |percent: usize| self.one_by_one[self.one_by_one.len() * percent / 100];
        let throughput = self.at_once[self.at_once.len() / 2];
        format!("{name:22} p50 {:?}  p99 {:?}  {throughput:.0} calls/s", at(50), at(99))
    }
}

/// ```text
/// cargo test --release --all-features --test sidecar -- --ignored --nocapture cost
/// ```
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures, and proves nothing"]
async fn what_the_tokens_cost() {
    let tokens = Tokens::start().await;
    let api = serve(Router::new().fallback(async || "an answer")).await;
    let config = format!(
        "listen = \"127.0.0.1:0\"\n{}\n[upstreams.api]\npath = \"/api\"\nto = \"http://{api}\"\n\
         source = \"local\"\n",
        tokens.source()
    );
    let bare = Sidecar::start_with(&config, &["--bare"], &[]).await;
    let with_tokens = Sidecar::start(&config).await;
    let body = "x".repeat(1024).leak();
    let mut callers = [Caller::new(&bare, body), Caller::new(&with_tokens, body)];
    for caller in &callers {
        for _ in 0..WARM_UP {
            caller.call().await;
        }
    }
    // In turns, so that whatever else this machine does meets both alike.
    for _ in 0..ROUNDS {
        for _ in 0..CALLS_ONE_BY_ONE {
            for caller in &mut callers {
                caller.one().await;
            }
        }
        for caller in &mut callers {
            caller.many().await;
        }
    }
    let [bare, with_tokens] = &mut callers;
    println!("{}\n{}", bare.report("without the layer"), with_tokens.report("with the layer"));
}
