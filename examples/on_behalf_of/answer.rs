//! The service's answers to its own caller. The caller learns of problems that only the user can
//! solve.

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

/// Answers a request without exactly one bearer token. The reason goes to the log only: RFC 6750
/// §3.1 wants no error code here.
pub(crate) fn no_subject(why: &NoSubject) -> Response {
    tracing::debug!(%why, "a request without a subject");
    unauthorized("")
}

/// Answers if there was no token or the API could not be reached.
pub(crate) fn failed(error: &(dyn Error + 'static)) -> Response {
    tracing::warn!(error, "the call of the API failed");
    if let Some(params) = challenge::params(error) {
        return unauthorized(&format!(", {params}"));
    }
    match TokenError::find_in(error) {
        Some(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        None => StatusCode::BAD_GATEWAY.into_response(),
    }
}

/// Passes the API's answer on. A 401 is about the token that this service fetched, so the caller
/// gets a 502 instead, unless the challenge asks the user for another login.
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
