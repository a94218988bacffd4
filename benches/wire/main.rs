//! The layer on real sockets: 64 connections to an API on loopback that answers with 1 KiB, each with
//! one request at a time, with the layer beside a ready header of the same token, in turn. The same for
//! the sidecar beside itself without tokens and beside nginx as a plain reverse proxy, if they are there.
//!
//! ```text
//! cargo bench -p tower-bearer-benches --bench wire
//! SIDECAR=target/release/examples/sidecar cargo bench -p tower-bearer-benches --bench wire
//! ```

mod api;
mod contest;
mod proxy;

use std::env;

use http::Uri;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::runtime::{Builder, Runtime};
use tower_bearer::BearerAuthLayer;
use tower_bearer_benches::{Body, Tokens};
use tower_layer::Layer;

use self::{contest::Contest, proxy::Proxy};

const CONNECTIONS: usize = 64;

type HttpClient = Client<HttpConnector, Body>;

fn main() {
    let has = |name| env::args().any(|argument| argument == name);
    // `cargo bench` says `--bench`; without it the rows are only tried.
    let (rounds, requests) = match (has("--bench"), has("--quick")) {
        (false, _) => (1, 10),
        (true, true) => (5, 100),
        (true, false) => (15, 200),
    };
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    let api = api::start();
    let uri: Uri = format!("http://{api}/v1/invoices").parse().expect("that is a URI");
    for (name, is_http2) in [("HTTP/1", false), ("HTTP/2", true)] {
        println!("\n{name}, {CONNECTIONS} connections");
        layer(&runtime, &uri, is_http2).run(&runtime, rounds, requests);
    }
    println!("\nHTTP/1 through a proxy, {CONNECTIONS} connections");
    proxies(api, &uri).run(&runtime, rounds, requests);
}

/// With the layer, and with the header alone that it would insert.
fn layer(runtime: &Runtime, uri: &Uri, is_http2: bool) -> Contest {
    let tokens = Tokens::new(runtime);
    let origin = format!("http://{}", uri.authority().expect("it has a host"));
    let layer = BearerAuthLayer::from_cache(tokens.cache.clone());
    let layer = layer.origin(origin.as_str()).expect("that is an origin");
    let floor = tokens.floor();
    let no_replay = layer.clone().no_replay();
    let mut contest = Contest::default();
    let ready = clients(is_http2).map(|it| floor.over(it)).collect();
    contest.add("a ready header", ready, uri, "a token", None);
    let services = clients(is_http2).map(|it| no_replay.layer(it)).collect();
    contest.add("NoReplay", services, uri, "a token", None);
    let services = clients(is_http2).map(|it| layer.layer(it)).collect();
    contest.add("CloneBody", services, uri, "a token", None);
    contest.add("no token", clients(is_http2).collect(), uri, "no token", None);
    if is_http2 {
        let indexed = floor.unmarked();
        let ready = clients(is_http2).map(|it| indexed.over(it)).collect();
        contest.add("an indexed header", ready, uri, "a token", None);
    }
    contest
}

/// Each of these holds its connection.
fn clients(is_http2: bool) -> impl Iterator<Item = HttpClient> {
    (0..CONNECTIONS).map(move |_| {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).http2_only(is_http2).build_http()
    })
}

/// Through what is there.
fn proxies(api: std::net::SocketAddr, uri: &Uri) -> Contest {
    let mut contest = Contest::default();
    contest.add("no proxy", clients(false).collect(), uri, "no token", None);
    let sidecar = env::var_os("SIDECAR");
    let started = [
        ("nginx", Proxy::nginx(api), "a token"),
        (
            "sidecar without tokens",
            sidecar.as_ref().and_then(|it| Proxy::sidecar(it, api, &["--bare"])),
            "no token",
        ),
        ("sidecar", sidecar.as_ref().and_then(|it| Proxy::sidecar(it, api, &[])), "a token"),
    ];
    for (name, proxy, seen) in started {
        match proxy {
            Some(proxy) => {
                let uri = proxy.uri().clone();
                contest.add(name, clients(false).collect(), &uri, seen, Some(proxy));
            }
            None => println!("{name}: is not here"),
        }
    }
    contest
}
