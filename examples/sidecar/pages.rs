//! The sidecar's pages: health, readiness and metrics.

use axum::body::Body;
use http::{Method, Response, StatusCode};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{answer::answer, error::explain, forward::Forwarder, plan::Plan, tokens::Tokens};

/// The page at this path; `None` if there is none.
pub(crate) fn page(
    (method, path): (&Method, &str),
    plan: &Plan,
    forwarder: &Forwarder,
    metrics: &PrometheusHandle,
) -> Option<Response<Body>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    match path {
        "/healthz" => Some(answer(StatusCode::OK, "ok")),
        "/readyz" => Some(readiness(plan)),
        "/metrics" => {
            #[expect(clippy::cast_precision_loss, reason = "4 GiB are far from 2^52")]
            metrics::gauge!("sidecar_kept_bytes").set(forwarder.kept() as f64);
            Some(answer(StatusCode::OK, metrics.render()))
        }
        _ => None,
    }
}

/// The sidecar is ready if it has a usable token for every upstream that does not act on behalf of
/// users. The page shows errors of the crate, which contain no secrets.
fn readiness(plan: &Plan) -> Response<Body> {
    let mut lines = Vec::new();
    for upstream in plan.upstreams() {
        let Tokens::One(cache) = &upstream.tokens else { continue };
        let status = cache.status();
        if status.has_token() {
            continue;
        }
        let why = match status.last_error() {
            Some(error) => explain(error),
            None => "the first token is being fetched".to_owned(),
        };
        let (name, source) = (&upstream.name, &upstream.source);
        lines.push(format!("{name}: no usable token from `{source}`: {why}"));
    }
    if lines.is_empty() {
        answer(StatusCode::OK, "ready")
    } else {
        answer(StatusCode::SERVICE_UNAVAILABLE, lines.join("\n"))
    }
}
