//! What Grafana shows of the sidecar.

use tokio::net::TcpStream;

use crate::{
    panels,
    support::{Sidecar, World, get, post_to},
};

#[tokio::test]
async fn every_panel_about_the_sidecar_finds_its_series_and_labels() {
    // For a connection that says nothing, and a request of which nothing can be kept.
    let settings = "connections.header_seconds = 1\nreplay = { per_request = 1, total = 1 }";
    let sidecar = Sidecar::start(&World::mirroring().await.config(settings)).await;
    let _silent = TcpStream::connect(sidecar.address).await.unwrap();
    assert_eq!(post_to(&sidecar.url("/api"), "xx").await.0, 200);
    sidecar.page("/metrics", |_, page| page.contains("sidecar_connections_ended_total{")).await;
    let (_, scrape) = get(&sidecar.url("/metrics")).await;
    let queries = panels::queries("sidecar_");
    assert_eq!(queries.len(), 4);
    let missing: Vec<_> = queries.iter().flat_map(|query| query.missing_in(&scrape)).collect();
    assert!(missing.is_empty(), "{missing:#?} in\n{scrape}");
    // The library's own have buckets too.
    let buckets = panels::queries("tower_bearer_fetch_seconds_bucket");
    assert!(buckets.iter().all(|query| query.missing_in(&scrape).is_empty()), "{scrape}");
}
