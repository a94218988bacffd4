//! Several ways to the API, in turn.

use std::{
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{runtime::Runtime, task::JoinSet};
use tower_bearer_benches::{Body, request, rounds::Spread};
use tower_service::Service;

use crate::{api::SEEN, proxy::Proxy};

/// The first way is what the others are compared with.
#[derive(Default)]
pub(crate) struct Contest {
    ways: Vec<Way>,
}

struct Way {
    name: &'static str,
    /// So many requests on each connection: how long each took.
    send: Box<dyn Fn(usize) -> BoxFuture<'static, Vec<Duration>>>,
    per_second: Vec<f64>,
    p99: Vec<f64>,
    /// Ends when the contest does.
    _proxy: Option<Proxy>,
}

impl Contest {
    /// A service for each connection. `seen` is what the API says of the requests. `proxy`: what they go
    /// through.
    pub(crate) fn add<S>(
        &mut self,
        name: &'static str,
        services: Vec<S>,
        uri: &Uri,
        seen: &'static str,
        proxy: Option<Proxy>,
    ) where
        S: Service<Request<Body>, Response = Response<Incoming>, Error: Debug, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let (services, uri) = (Arc::new(services), uri.clone());
        let send = move |requests| -> BoxFuture<'static, Vec<Duration>> {
            Box::pin(send(Arc::clone(&services), uri.clone(), requests, seen))
        };
        let send = Box::new(send);
        self.ways.push(Way { name, send, per_second: vec![], p99: vec![], _proxy: proxy });
    }

    pub(crate) fn run(mut self, runtime: &Runtime, rounds: usize, requests: usize) {
        for way in &self.ways {
            runtime.block_on((way.send)(requests));
        }
        let count = self.ways.len();
        for round in 0..rounds {
            for nth in 0..count {
                let way = &mut self.ways[(round + nth) % count];
                let start = Instant::now();
                let took = runtime.block_on((way.send)(requests));
                way.measured(took, start.elapsed());
            }
        }
        println!("{:<26} {:>9} {:>8} {:>10} {:>8}", "", "req/s", "x first", "p99, ms", "x first");
        let first = (self.ways[0].per_second.clone(), self.ways[0].p99.clone());
        for way in &self.ways {
            let (per_second, p99) = (&way.per_second, &way.p99);
            println!(
                "{:<26} {:>9.0} {:>8.3} {:>10.3} {:>8.2}",
                way.name,
                Spread::of(per_second.clone()).median,
                ratio(per_second, &first.0),
                Spread::of(p99.clone()).median,
                ratio(p99, &first.1),
            );
        }
    }
}

impl Way {
    fn measured(&mut self, mut took: Vec<Duration>, time: Duration) {
        let count = u32::try_from(took.len()).expect("that would take weeks");
        took.sort();
        self.per_second.push(f64::from(count) / time.as_secs_f64());
        self.p99.push(took[took.len() * 99 / 100].as_secs_f64() * 1e3);
    }
}

/// The median over the rounds.
fn ratio(way: &[f64], first: &[f64]) -> f64 {
    Spread::of(way.iter().zip(first).map(|(way, first)| way / first).collect()).median
}

async fn send<S>(
    services: Arc<Vec<S>>,
    uri: Uri,
    requests: usize,
    seen: &'static str,
) -> Vec<Duration>
where
    S: Service<Request<Body>, Response = Response<Incoming>, Error: Debug, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let mut connections = JoinSet::new();
    for service in services.iter() {
        let (mut service, uri) = (service.clone(), uri.clone());
        connections.spawn(async move {
            let mut took = Vec::with_capacity(requests);
            for _ in 0..requests {
                let start = Instant::now();
                let response =
                    service.call(request(&uri)).await.unwrap_or_else(|error| panic!("{error:?}"));
                assert_eq!(response.status(), 200);
                assert_eq!(response.headers()[SEEN], seen);
                let body = response.into_body().collect().await.expect("it is whole");
                assert_eq!(body.to_bytes().len(), 1024);
                took.push(start.elapsed());
            }
            took
        });
    }
    connections.join_all().await.into_iter().flatten().collect()
}
