//! Coming to an end.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    routing::{get, post},
};
use http::Request;
use http_body_util::BodyExt;
use tokio::{net::TcpStream, sync::Notify};

use crate::support::{Sidecar, World, client, log, piece, send, soon, written};

#[tokio::test]
async fn on_sigterm_what_is_under_way_ends_and_nothing_more_begins() {
    let echo = |request: axum::extract::Request| async { Body::new(request.into_body()) };
    let world = World::new(Router::new().route("/base", post(echo))).await;
    let sidecar = Sidecar::start(&world.config("")).await;
    let (pieces, body) = written();
    let request = Request::post(sidecar.url("/api")).body(body).unwrap();
    pieces.send(Ok("before".into())).unwrap();
    let mut response = send(request).await;
    assert_eq!(piece(response.body_mut()).await, "before");
    sidecar.terminate();
    // It listens no more.
    while TcpStream::connect(sidecar.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    // So many round trips take longer than a program that ends at once.
    for _ in 0..500 {
        pieces.send(Ok("after".into())).unwrap();
        assert_eq!(piece(response.body_mut()).await, "after");
    }
    drop(pieces);
    assert!(soon(response.body_mut().frame()).await.is_none());
    assert_eq!(sidecar.ended().await, Some(0));
}

#[tokio::test]
async fn what_does_not_end_is_cut_off() {
    let arrived = Arc::new(Notify::new());
    let tell = Arc::clone(&arrived);
    let handler = move || {
        tell.notify_one();
        std::future::pending::<()>()
    };
    let world = World::new(Router::new().route("/base", get(handler))).await;
    let sidecar = Sidecar::start(&world.config("drain_seconds = 0")).await;
    let request = Request::get(sidecar.url("/api")).body(Body::empty()).unwrap();
    let call = tokio::spawn(client().request(request));
    soon(arrived.notified()).await;
    sidecar.terminate();
    assert_eq!(sidecar.ended().await, Some(0));
    assert!(soon(call).await.unwrap().is_err());
}

#[tokio::test]
async fn the_log_says_when_it_begins_to_drain_and_when_it_has_ended() {
    let log = log(&World::mirroring().await.config("drain_seconds = 7")).await;
    // The log may have a fetch that the end has cut off, too.
    let mut lines = log.lines().filter(|line| line.contains(" INFO "));
    let (drains, ended) = (lines.next().unwrap(), lines.next().unwrap());
    assert!(drains.contains("draining: ") && drains.contains("7s"), "{log}");
    assert!(ended.ends_with("ended") && lines.next().is_none(), "{log}");
}

#[tokio::test]
async fn a_listener_beyond_this_machine_is_logged_as_a_warning() {
    let config = World::mirroring().await.config("");
    let log = log(&config.replace("\"127.0.0.1:0\"", "\"0.0.0.0:0\"")).await;
    let warning = log.lines().next().unwrap();
    assert!(warning.contains(" WARN ") && warning.contains("beyond this machine"), "{log}");
    assert!(warning.contains("0.0.0.0:"), "{log}");
}
