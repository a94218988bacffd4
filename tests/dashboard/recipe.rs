use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Buckets from a cache hit (1 ms) to a token's lifetime (1 h).
const SECONDS: [f64; 12] =
    [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0, 3600.0];

fn exporter() -> Result<PrometheusHandle, BuildError> {
    // Without buckets they would be summaries, which have no `_bucket`.
    let ours = Matcher::Prefix("tower_bearer_".to_owned());
    let metrics = PrometheusBuilder::new().set_buckets_for_metric(ours, &SECONDS)?;
    let metrics = metrics.install_recorder()?;
    tower_bearer::describe_metrics();
    Ok(metrics) // `/metrics` answers with `metrics.render()`
}
