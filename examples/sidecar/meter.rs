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
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SORTED_EVERY).await;
            upkeep.run_upkeep();
        }
    });
    Ok(metrics)
}
