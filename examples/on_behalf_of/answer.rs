//! What the service's own caller is told: what only the user can mend reaches the user.

use std::error::Error;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header::WWW_AUTHENTICATE},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use tower_bearer::{Challenge, NoSubject, Refused, TokenError, oauth2::EndpointError};

/// Where a client of Microsoft Entra sends its user to log in again.
const AUTHORIZATION_URI: &str = "https://login.microsoftonline.com/common/oauth2/authorize";

/// The login is no good: the client needs a new one (RFC 6750 §3.1).
const INVALID_TOKEN: &str = r#"Bearer error="invalid_token""#;

/// The client has to log its user in before it comes again. What is wrong with the header is for
/// the log: a caller who has sent no token is told no more than that (RFC 6750 §3.1).
pub(crate) fn no_subject(why: &NoSubject) -> Response {
    tracing::debug!(%why, "a request on behalf of nobody");
    challenge(HeaderValue::from_static("Bearer"))
}

/// The API was not asked.
pub(crate) fn failed(error: &(dyn Error + 'static)) -> Response {
    tracing::warn!(error, "the API was not asked");
    if let Some(said) = EndpointError::find_in(error) {
        if said.needs_interaction() {
            return needs_user(said.claims());
        }
        // So a token exchange refuses the subject's token (RFC 8693 §2.2.2), and Entra.
        let refuses_subject = matches!(said.error(), Some("invalid_request" | "invalid_grant"));
        if said.concerns_key_only() && refuses_subject {
            return challenge(HeaderValue::from_static(INVALID_TOKEN));
        }
    }
    if matches!(Refused::find_in(error), Some(Refused::SubjectExpired)) {
        challenge(HeaderValue::from_static(INVALID_TOKEN))
    } else if TokenError::find_in(error).is_some() {
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    } else {
        StatusCode::BAD_GATEWAY.into_response()
    }
}

/// The user has to log in again and prove something: the claims challenge of Microsoft Entra, or,
/// if it says no more than that, the one of RFC 9470 §3.
fn needs_user(claims: Option<&str>) -> Response {
    let Some(claims) = claims else {
        let plain = r#"Bearer error="insufficient_user_authentication""#;
        return challenge(HeaderValue::from_static(plain));
    };
    let claims = STANDARD.encode(claims);
    let text = format!(
        r#"Bearer realm="", authorization_uri="{AUTHORIZATION_URI}", error="insufficient_claims", claims="{claims}""#
    );
    // Base64 is always fit for a header.
    HeaderValue::try_from(text).map_or_else(|_| StatusCode::BAD_GATEWAY.into_response(), challenge)
}

/// The API's answer. Its 401 says that the token is no good which this service got, and so is none
/// of the caller's, unless it is the user who has to do something about it.
pub(crate) fn passed_on(response: Response<Body>) -> Response {
    let is_rejection = response.status() == StatusCode::UNAUTHORIZED;
    if is_rejection && !asks_the_user(response.headers()) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    response
}

/// Whether a challenge asks for another login, of RFC 9470 or of Entra.
fn asks_the_user(headers: &HeaderMap) -> bool {
    Challenge::from_headers(headers).iter().any(|challenge| {
        let error = challenge.param("error");
        matches!(error, Some("insufficient_user_authentication" | "insufficient_claims"))
    })
}

fn challenge(text: HeaderValue) -> Response {
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, text)]).into_response()
}
