//! What the service answers to its own caller: the user learns what only the user can change.

use std::error::Error;

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header::WWW_AUTHENTICATE},
    response::{IntoResponse, Response},
};
use tower_bearer::{Challenge, NoSubject, TokenError};

use crate::challenge;

/// Where clients of the service let their users log in. A claims challenge of Microsoft Entra must
/// name it.
const AUTHORIZATION_URI: &str = "https://login.example.com/oauth2/authorize";

/// The client must send exactly one bearer token. The log says what it sent instead. A client that
/// sent no token learns nothing more (RFC 6750 §3.1).
pub(crate) fn no_subject(why: &NoSubject) -> Response {
    tracing::debug!(%why, "a request without a subject");
    unauthorized("")
}

/// The service did not call the API.
pub(crate) fn failed(error: &(dyn Error + 'static)) -> Response {
    tracing::warn!(error, "the API was not called");
    if let Some(params) = challenge::params(error) {
        return unauthorized(&format!(", {params}"));
    }
    match TokenError::find_in(error) {
        Some(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        None => StatusCode::BAD_GATEWAY.into_response(),
    }
}

/// The API's answer. A 401 concerns the token that this service fetched, so it is not the caller's
/// problem, unless the user has to do something about it.
pub(crate) fn passed_on(response: Response<Body>) -> Response {
    let is_rejection = response.status() == StatusCode::UNAUTHORIZED;
    if is_rejection && !asks_the_user(response.headers()) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    response
}

/// Whether a challenge asks for another login, as RFC 9470 or Entra define it.
fn asks_the_user(headers: &HeaderMap) -> bool {
    Challenge::from_headers(headers).iter().any(|challenge| {
        let error = challenge.param("error");
        matches!(error, Some("insufficient_user_authentication" | "insufficient_claims"))
    })
}

fn unauthorized(params: &str) -> Response {
    let challenge = format!(r#"Bearer authorization_uri="{AUTHORIZATION_URI}"{params}"#);
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)]).into_response()
}
