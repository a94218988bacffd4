//! The meaning of token services' OAuth errors.

/// Codes of transient failures, whatever the status: RFC 6749 §4.1.2.1, RFC 8628 §3.5, Google's
/// `internal_failure`, and RFC 9449 §8 (a transport that signs `DPoP` proofs has then learnt the
/// nonce).
const TRANSIENT: [&str; 6] = [
    "authorization_pending",
    "internal_failure",
    "server_error",
    "slow_down",
    "temporarily_unavailable",
    "use_dpop_nonce",
];

/// Codes that only the user can resolve: `OpenID` Connect Core §3.1.2.6, and Entra's.
const INTERACTION: [&str; 4] =
    ["consent_required", "insufficient_claims", "interaction_required", "login_required"];

/// Codes about what the request asks for: RFC 6749 §4.1.2.1 and §5.2, RFC 8707 §2.
const ASKED: [&str; 3] = ["access_denied", "invalid_scope", "invalid_target"];

/// Codes about the client (RFC 6749 §5.2).
const CLIENT: [&str; 3] = ["invalid_client", "unauthorized_client", "unsupported_grant_type"];

/// Codes that may be a metric's label: RFC 6749 §5.2 and §4.1.2.1, RFC 8628 §3.5, RFC 8707 §2,
/// `OpenID` Connect Core §3.1.2.6.
const KNOWN: [&str; 16] = [
    "access_denied",
    "authorization_pending",
    "consent_required",
    "insufficient_claims",
    "interaction_required",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "login_required",
    "server_error",
    "slow_down",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_grant_type",
];

/// What an OAuth error means for the next request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The failure is transient.
    Transient,
    /// The grant is no longer valid (RFC 6749 §5.2).
    InvalidGrant,
    /// The user must act.
    Interaction,
    /// The service does not grant what the request asks for.
    Asked,
    /// The service refuses the client, whatever the request asks for.
    Client,
    /// Another error, or none.
    Other,
}

// ===== impl Meaning =====

impl Meaning {
    pub(super) fn of(error: Option<&str>, description: Option<&str>) -> Self {
        let mut said = [error, description].into_iter().flatten();
        if said.any(|text| TRANSIENT.contains(&text)) {
            Self::Transient
        } else if error == Some("invalid_grant") {
            Self::InvalidGrant
        } else {
            let is_one_of = |codes: &[&str]| error.is_some_and(|error| codes.contains(&error));
            let listed = [
                (&INTERACTION[..], Self::Interaction),
                (&ASKED, Self::Asked),
                (&CLIENT, Self::Client),
            ];
            let found = listed.into_iter().find(|(codes, _)| is_one_of(codes));
            found.map_or(Self::Other, |(_, meaning)| meaning)
        }
    }
}

/// The code itself, if it may be a metric's label.
pub(super) fn known(code: &str) -> Option<&'static str> {
    KNOWN.into_iter().find(|known| *known == code)
}
