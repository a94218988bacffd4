//! The metrics of this program and of the library, for Prometheus.

use std::{fmt::Display, time::Duration};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// In seconds: from a response on loopback to the lifetime of a token.
const BUCKETS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0,
    3600.0,
];

/// How often to sort the collected samples into their buckets: they use memory until then.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

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
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            upkeep.run_upkeep();
        }
    });
    Ok(metrics)
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("sidecar_requests_total", "Forwarded requests, by upstream and status");
    describe_histogram!(
        "sidecar_response_seconds",
        "Time to the head of the response, by upstream"
    );
    describe_counter!(
        "sidecar_unkept_total",
        "Requests that cannot be sent again after a 401, by upstream"
    );
    describe_gauge!(
        "sidecar_kept_bytes",
        "Bytes reserved for request bodies that may be sent again"
    );
    describe_gauge!("sidecar_connections", "Open connections of clients");
    describe_counter!(
        "sidecar_connections_ended_total",
        "Connections that the sidecar closed, by reason"
    );
}
