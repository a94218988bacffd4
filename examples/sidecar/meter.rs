//! What is counted, by this program and by the library, for Prometheus.

use std::{fmt::Display, time::Duration};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Seconds: from an answer of this machine to the life of a token.
const BUCKETS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0,
    3600.0,
];

/// Measurements pile up until they are sorted into their buckets.
const SORTED_EVERY: Duration = Duration::from_secs(5);

pub(crate) fn install() -> Result<PrometheusHandle, String> {
    let cannot = |error: &dyn Display| format!("the metrics cannot be set up: {error}");
    let metrics = PrometheusBuilder::new()
        .set_buckets(&BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| cannot(&error))?;
    tower_bearer::describe_metrics();
    describe();
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SORTED_EVERY).await;
            upkeep.run_upkeep();
        }
    });
    Ok(metrics)
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("sidecar_requests_total", "Forwarded requests, by upstream and status");
    describe_histogram!("sidecar_response_seconds", "Until the head of the answer, by upstream");
    describe_counter!(
        "sidecar_unkept_total",
        "Requests of which nothing could be kept, by upstream: a 401 is their answer"
    );
    describe_gauge!("sidecar_kept_bytes", "Reserved for what is kept of requests");
    describe_gauge!("sidecar_connections", "Connections of clients");
    describe_counter!(
        "sidecar_connections_ended_total",
        "Connections that the sidecar ended, by reason: nothing was under way on them"
    );
}
