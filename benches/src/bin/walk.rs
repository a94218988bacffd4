//! Sends so many requests along one way, and does nothing else: for counting instructions.
//!
//! ```text
//! walk <path> <requests>
//! ```
//!
//! The benchmark's documentation says what a request is. `benches/instructions` runs this under
//! callgrind, with two numbers of requests: what the program does beside them cancels out.

use std::{convert::identity, env, hint::black_box, process::ExitCode};

use futures_util::FutureExt;
use http::{Request, Response, Uri};
use tokio::runtime::{Builder, Runtime};
use tower_bearer_benches::{
    Answer, Body, REPLAY_LIMIT, Tokens,
    keyed::{Users, keyed_request},
    many_uris, request, uri, walk, walk_with,
};
use tower_layer::Layer;
use tower_service::Service;

const USAGE: &str = "usage: walk <request|request_clone|no_auth|floor|no_replay|clone_body|shared|\
                     buffer_body|thousand_origins|floor_in_turn|thousand_in_turn|floor_keyed|keyed|\
                     get> <requests>";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (path, requests) = (arguments.next(), arguments.next());
    let requests = requests.and_then(|requests| requests.parse().ok());
    let (Some(path), Some(requests)) = (path, requests) else { return usage() };

    let uri = uri();
    let runtime = runtime();
    let tokens = Tokens::new(&runtime);
    let users = || Users::new(&runtime);
    match path.as_str() {
        "request" => (0..requests).for_each(|_| drop(black_box(request(&uri)))),
        "request_clone" => {
            (0..requests).for_each(|_| drop(black_box(black_box(request(&uri)).clone())));
        }
        "no_auth" => send(requests, &uri, Answer),
        "floor" => send(requests, &uri, tokens.floor()),
        "no_replay" => send(requests, &uri, tokens.layer().no_replay().layer(Answer)),
        #[cfg(unix)]
        "shared" => send_shared(requests, &uri),
        "clone_body" => send(requests, &uri, tokens.layer().layer(Answer)),
        "buffer_body" => {
            send(requests, &uri, tokens.layer().buffer_body(REPLAY_LIMIT, identity).layer(Answer));
        }
        "floor_keyed" => send_keyed(requests, &uri, &users(), tokens.floor()),
        "keyed" => {
            let users = users();
            send_keyed(requests, &uri, &users, users.layer().no_replay().layer(Answer));
        }
        "get" => (0..requests).for_each(|_| {
            assert!(matches!(black_box(tokens.cache.get().now_or_never()), Some(Ok(_))));
        }),
        "thousand_origins" => {
            send(requests, &uri, tokens.layer_of_many().no_replay().layer(Answer));
        }
        "floor_in_turn" => send_in_turn(requests, tokens.floor()),
        "thousand_in_turn" => {
            send_in_turn(requests, tokens.layer_of_many().no_replay().layer(Answer));
        }
        _ => return usage(),
    }
    assert_eq!(tokens.fetched(), 1);
    ExitCode::SUCCESS
}

/// No other thread: what it allocates would change what it costs this one to allocate.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime starts")
}

/// As `clone_body`, with a token that other processes might share.
#[cfg(unix)]
fn send_shared(requests: u32, uri: &Uri) {
    let directory = env::temp_dir().join(format!("walk-{}", std::process::id()));
    let runtime = runtime();
    let tokens = Tokens::shared(&runtime, &directory);
    // It waits for what is still being written to the directory.
    drop(runtime);
    send(requests, uri, tokens.layer().layer(Answer));
    assert_eq!(tokens.fetched(), 1);
    std::fs::remove_dir_all(directory).expect("it is ours");
}

fn send<S>(requests: u32, uri: &Uri, mut service: S)
where
    S: Service<Request<Body>, Response = Response<()>>,
{
    (0..requests).for_each(|_| walk(&mut service, uri));
}

fn send_keyed<S>(requests: u32, uri: &Uri, users: &Users, mut service: S)
where
    S: Service<Request<Body>, Response = Response<()>>,
{
    let key = &users.keys[0];
    (0..requests).for_each(|_| walk_with(&mut service, keyed_request(uri, key)));
}

/// To each of many origins in turn. The first request to each leaves a pass for the others: it does
/// not count.
fn send_in_turn<S>(requests: u32, mut service: S)
where
    S: Service<Request<Body>, Response = Response<()>>,
{
    let uris = many_uris();
    for uri in &uris {
        walk(&mut service, uri);
    }
    (0..requests).zip(uris.iter().cycle()).for_each(|(_, uri)| walk(&mut service, uri));
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::FAILURE
}
