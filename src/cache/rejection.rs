//! What an API has said against a token.

use crate::{challenge::Challenge, origin::Origin, token::AccessToken};

/// A token that was rejected, where, and with which challenge.
///
/// What counts is the token that the rejected request carried: a rejection of an old token,
/// arriving after a newer one is here, fetches nothing.
#[derive(Clone, Debug)]
pub struct Rejection {
    pub(super) token: AccessToken,
    pub(super) origin: Option<Origin>,
    pub(super) challenge: Option<Challenge>,
}

impl Rejection {
    /// A rejection of the token that *this* request carried.
    #[must_use]
    pub fn new(token: AccessToken) -> Self {
        Self { token, origin: None, challenge: None }
    }

    /// Adds who rejected it. An origin that rejects every fresh token is held up alone.
    #[must_use]
    pub fn with_origin(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Adds the challenge that it came with. It decides whether a new token is a cure.
    #[must_use]
    pub fn with_challenge(mut self, challenge: Challenge) -> Self {
        self.challenge = Some(challenge);
        self
    }
}
