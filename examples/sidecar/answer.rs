//! Responses that the sidecar itself generates.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};

/// Why the sidecar does not forward a request: the status and the text of its response.
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) &'static str);

pub(crate) fn answer(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Body::from(text.into() + "\n"));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

impl From<Refusal> for Response<Body> {
    fn from(Refusal(status, problem): Refusal) -> Self {
        answer(status, format!("sidecar: {problem}"))
    }
}
