//! What a user's client is told if no token can be had on that user's behalf.

use std::error::Error;

use base64::{Engine, engine::general_purpose::STANDARD};
use tower_bearer::{Refused, oauth2::EndpointError};

/// The parameters of a `Bearer` challenge, for the 401 of a service that acts on behalf of its
/// users; `None` if it is the service that has trouble, and not the user.
pub(crate) fn params(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(said) = EndpointError::find_in(error) {
        if said.needs_interaction() {
            return Some(interaction(said.claims()));
        }
        // So a token exchange refuses the user's token (RFC 8693 §2.2.2), and so does Entra.
        let refuses_user = matches!(said.error(), Some("invalid_request" | "invalid_grant"));
        return (said.concerns_key_only() && refuses_user).then(invalid_token);
    }
    let has_expired = matches!(Refused::find_in(error), Some(Refused::SubjectExpired));
    has_expired.then(invalid_token)
}

/// The client needs a new token of the user's (RFC 6750 §3.1).
fn invalid_token() -> String {
    r#"error="invalid_token""#.to_owned()
}

/// The user has to log in again and prove something: the claims challenge of Microsoft Entra, whose
/// client sends the claims along; without claims, the one of RFC 9470 §3.
fn interaction(claims: Option<&str>) -> String {
    match claims {
        Some(claims) => {
            format!(r#"error="insufficient_claims", claims="{}""#, STANDARD.encode(claims))
        }
        None => r#"error="insufficient_user_authentication""#.to_owned(),
    }
}
