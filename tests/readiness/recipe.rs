use axum::{Router, extract::State, http::StatusCode, routing::get};
use tower_bearer::TokenCache;

/// 200 while there is a usable token, else 503; and why, in one line.
async fn readyz(State(cache): State<TokenCache>) -> (StatusCode, String) {
    let status = cache.status();
    let code = if status.has_token() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, status.to_string())
}

pub(crate) fn readiness(cache: TokenCache) -> Router {
    cache.keep_warm(); // fetches from now on, without a request
    Router::new().route("/readyz", get(readyz)).with_state(cache)
}
