//! The challenge for a user's client if there is no token on that user's behalf.

use std::error::Error;

use base64::{Engine, engine::general_purpose::STANDARD};
use tower_bearer::{Refused, oauth2::EndpointError};

/// The parameters of a `Bearer` challenge, for the 401 of a service that acts on behalf of its
/// users; `None` if the user cannot solve the problem.
pub(crate) fn params(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(said) = EndpointError::find_in(error) {
        if said.needs_interaction() {
            return Some(interaction(said.claims()));
        }
        // A token exchange refuses the user's token like this (RFC 8693 §2.2.2), and so does Entra.
        let refuses_user = matches!(said.error(), Some("invalid_request" | "invalid_grant"));
        return (said.concerns_key_only() && refuses_user).then(invalid_token);
    }
    let has_expired = matches!(Refused::find_in(error), Some(Refused::SubjectExpired));
    has_expired.then(invalid_token)
}

/// The client needs a new token of the user (RFC 6750 §3.1).
fn invalid_token() -> String {
    r#"error="invalid_token""#.to_owned()
}

/// The user must log in again and prove something. With claims this is the claims challenge of
/// Microsoft Entra, whose client sends the claims along; without claims, that of RFC 9470 §3.
fn interaction(claims: Option<&str>) -> String {
    match claims {
        Some(claims) => {
            format!(r#"error="insufficient_claims", claims="{}""#, STANDARD.encode(claims))
        }
        None => r#"error="insufficient_user_authentication""#.to_owned(),
    }
}
