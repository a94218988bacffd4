//! Connections that take up room without asking for anything.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, body::Body, routing::get};
use http::{Request, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

use crate::support::{self, Sidecar, World, client, soon};

/// Nothing, and beginnings of what a client could say.
const BEGINNINGS: [&[u8]; 4] =
    [b"", b"PRI * HTTP/2.0\r\n", b"GET /healthz HTTP/1.1\r\nHost: local", HALF_HTTP2];

/// The preface, settings, and half a frame of headers.
const HALF_HTTP2: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x64\x01\x04\0\0\0\x01\x82";

async fn connect(sidecar: &Sidecar, begin: &[u8]) -> TcpStream {
    let mut connection = TcpStream::connect(sidecar.address).await.expect("it listens");
    connection.write_all(begin).await.expect("it reads");
    connection
}

/// Waits until the sidecar has closed it.
async fn closed(mut connection: TcpStream) {
    // A reset is an end too.
    drop(soon(connection.read_to_end(&mut Vec::new())).await);
}

#[tokio::test]
async fn a_connection_whose_headers_are_not_finished_in_time_is_closed() {
    let config = World::mirroring().await.config("connections.header_seconds = 1");
    let sidecar = Sidecar::start(&config).await;
    let mut connections = Vec::new();
    for begin in BEGINNINGS {
        connections.push(connect(&sidecar, begin).await);
    }
    for connection in connections {
        closed(connection).await;
    }
    sidecar.metric("sidecar_connections_ended_total{reason=\"headers\"} 3").await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let config = World::mirroring().await.config("connections.idle_seconds = 1");
    let sidecar = Sidecar::start(&config).await;
    let mut connection =
        connect(&sidecar, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let mut answer = Vec::new();
    soon(connection.read_to_end(&mut answer)).await.expect("it is closed in order");
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{answer:?}");
    sidecar.metric("sidecar_connections_ended_total{reason=\"idle\"} 1").await;
}

#[cfg(unix)]
#[tokio::test]
async fn silent_connections_do_not_keep_the_pages_from_anybody() {
    let config = World::mirroring().await.config("connections.header_seconds = 3600");
    let sidecar = Sidecar::start_with_files(&config, 64).await;
    let mut silent = Vec::new();
    for _ in 0..70 {
        silent.push(connect(&sidecar, b"").await);
    }
    assert_eq!(support::get(&sidecar.url("/healthz")).await, (StatusCode::OK, "ok\n".to_owned()));
    // Those that came first have made room.
    closed(silent.swap_remove(0)).await;
    let page = sidecar.page("/metrics", |status, _| status == 200).await;
    let open = page.lines().find_map(|line| line.strip_prefix("sidecar_connections "));
    let open: u32 = open.expect("the line is there").parse().expect("a number");
    assert!((2..=16).contains(&open), "{open}");
    assert!(page.contains("sidecar_connections_ended_total{reason=\"full\"}"), "{page}");
}

#[tokio::test]
async fn at_the_limit_a_new_connection_waits_for_those_that_are_served() {
    let (goes_on, most) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let now = Arc::new(AtomicUsize::new(0));
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let handler = {
        let (goes_on, most) = (Arc::clone(&goes_on), Arc::clone(&most));
        move || {
            let (goes_on, most) = (Arc::clone(&goes_on), Arc::clone(&most));
            let (now, arrived) = (Arc::clone(&now), arrived.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                arrived.send(()).expect("the test waits");
                goes_on.acquire().await.expect("it is open").forget();
                now.fetch_sub(1, Ordering::SeqCst);
            }
        }
    };
    let world = World::new(Router::new().route("/base", get(handler))).await;
    let sidecar = Sidecar::start(&world.config("connections.max = 2")).await;
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let request = Request::get(sidecar.url("/api")).body(Body::empty()).unwrap();
            tokio::spawn(client().request(request))
        })
        .collect();
    for _ in 0..6 {
        soon(arrivals.recv()).await.expect("it goes on");
        goes_on.add_permits(1);
    }
    for call in calls {
        assert_eq!(soon(call).await.unwrap().unwrap().status(), 200);
    }
    assert!(most.load(Ordering::SeqCst) <= 2, "{most:?}");
}

#[tokio::test]
async fn on_sigterm_idle_connections_do_not_delay_the_end() {
    let world = World::mirroring().await;
    // Longer than the test waits.
    let config = world.config("drain_seconds = 3600\nconnections.header_seconds = 3600");
    let sidecar = Sidecar::start(&config).await;
    let mut connections = Vec::new();
    for begin in BEGINNINGS {
        connections.push(connect(&sidecar, begin).await);
    }
    // One that is idle.
    let keeps = client();
    let request = Request::get(sidecar.url("/healthz")).body(Body::empty()).unwrap();
    let response = soon(keeps.request(request)).await.unwrap();
    assert_eq!(support::text(response).await.0, 200);
    sidecar.terminate();
    assert_eq!(sidecar.ended().await, Some(0));
    for connection in connections {
        closed(connection).await;
    }
}
