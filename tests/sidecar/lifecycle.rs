//! Coming to an end.

use std::sync::Arc;

use axum::{Router, body::Body, routing::get};
use http::Request;
use tokio::{net::TcpStream, sync::Notify};

use crate::support::{Sidecar, World, client, soon, text};

/// An API that answers when the test says so.
async fn gated() -> (World, Arc<Notify>, Arc<Notify>) {
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&arrived), Arc::clone(&go));
    let handler = move || {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.notify_one();
            wait.notified().await;
            "done"
        }
    };
    (World::new(Router::new().route("/base", get(handler))).await, arrived, go)
}

#[tokio::test]
async fn on_sigterm_what_is_under_way_ends_and_nothing_more_begins() {
    let (world, arrived, go) = gated().await;
    let sidecar = Sidecar::start(&world.config("")).await;
    let request = Request::get(sidecar.url("/api")).body(Body::empty()).unwrap();
    let call = tokio::spawn(client().request(request));
    soon(arrived.notified()).await;
    sidecar.terminate();
    // It listens no more, before the call has ended.
    while TcpStream::connect(sidecar.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    let (status, body) = text(soon(call).await.unwrap().unwrap()).await;
    assert_eq!((status.as_u16(), body.as_str()), (200, "done"));
    assert_eq!(sidecar.ended().await, Some(0));
}

#[tokio::test]
async fn what_does_not_end_is_cut_off() {
    let (world, arrived, _go) = gated().await;
    let sidecar = Sidecar::start(&world.config("drain_seconds = 0")).await;
    let request = Request::get(sidecar.url("/api")).body(Body::empty()).unwrap();
    let call = tokio::spawn(client().request(request));
    soon(arrived.notified()).await;
    sidecar.terminate();
    assert_eq!(sidecar.ended().await, Some(0));
    assert!(soon(call).await.unwrap().is_err());
}
