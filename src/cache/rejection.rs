//! A token that an API has rejected.

use crate::{challenge::Challenge, origin::Origin, token::AccessToken};

/// A token that was rejected, with the origin and the challenge.
///
/// What counts is the token that the rejected request carried: a rejection of an old token that
/// arrives after a newer token fetches nothing.
#[derive(Clone, Debug)]
pub struct Rejection {
    pub(super) token: AccessToken,
    pub(super) origin: Option<Origin>,
    pub(super) challenge: Option<Challenge>,
    /// Whether the source says that it can satisfy the challenge.
    pub(super) is_satisfiable: bool,
}

/// What a challenge demands of the next token, beyond being another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Demand(Vec<(String, String)>);

// ===== impl Rejection =====

impl Rejection {
    /// A rejection of the token that *this* request carried.
    #[must_use]
    pub fn new(token: AccessToken) -> Self {
        Self { token, origin: None, challenge: None, is_satisfiable: false }
    }

    /// Adds the origin that rejected the token. An origin that rejects every fresh token backs off
    /// alone.
    #[must_use]
    pub fn with_origin(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Adds the challenge that came with the rejection. It decides whether a new token can help,
    /// and what that token must satisfy.
    #[must_use]
    pub fn with_challenge(mut self, challenge: Challenge) -> Self {
        self.challenge = Some(challenge);
        self
    }

    pub(super) fn demand(&self) -> Option<Demand> {
        Demand::of(self.challenge.as_ref()?, self.is_satisfiable)
    }
}

// ===== impl Demand =====

impl Demand {
    /// Claims (`OpenID` Connect Core §5.5), a step-up (RFC 9470 §3), a nonce (RFC 9449 §9). A scope
    /// counts too, unless the error is that the token is invalid: there it only says what the
    /// resource needs (RFC 6750 §3). So it does without an error, if the source does not say that
    /// it asks for it. Other schemes demand nothing of a token: HTTP Digest has a nonce too.
    fn of(challenge: &Challenge, is_satisfiable: bool) -> Option<Self> {
        if !challenge.is("bearer") && !challenge.is("dpop") {
            return None;
        }
        let scope_counts =
            challenge.param("error").map_or(is_satisfiable, |error| error != "invalid_token");
        let wanted = |name: &str| match name {
            "claims" | "acr_values" | "max_age" | "nonce" => true,
            "scope" => scope_counts,
            _ => false,
        };
        let params = challenge.params().filter(|(name, _)| wanted(name));
        let mut params: Vec<_> =
            params.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        params.sort();
        (!params.is_empty()).then_some(Self(params))
    }
}
