//! Where a request goes, whose token it gets, and what the response says of that token: the
//! same for the layer and for every other chain.

use http::response;

use crate::{
    cache::{Rejection, TokenCache},
    challenge::Challenge,
    layer::Config,
    origin::{FinalUri, Origin},
    token::AccessToken,
};

/// An origin that a token may go to, and the cache that has it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) origin: Origin,
    pub(crate) cache: TokenCache,
    /// Whether it was configured, and so may be the label of a number.
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "it is only told"))]
    pub(crate) is_named: bool,
}

// ===== impl Target =====

impl Target {
    /// What the response says of the token that its request carried. A rejection is to be
    /// told to the cache, by whoever knows if it is waited for; an acceptance has been.
    pub(crate) fn verdict(
        &self,
        config: &Config,
        token: &AccessToken,
        response: &response::Parts,
    ) -> Option<Rejection> {
        if self.is_elsewhere(response) {
            return None;
        }
        if !config.rejects(response) {
            if config.accepts(response) {
                self.cache.accepted(token, Some(&self.origin));
            }
            return None;
        }
        let rejection = Rejection::new(token.clone()).with_origin(self.origin.clone());
        Some(match Challenge::decisive(Challenge::from_headers(&response.headers)) {
            Some(challenge) => rejection.with_challenge(challenge),
            None => rejection,
        })
    }

    fn is_elsewhere(&self, response: &response::Parts) -> bool {
        let final_uri = response.extensions.get::<FinalUri>();
        final_uri.and_then(|uri| Origin::of(&uri.0)).is_some_and(|origin| origin != self.origin)
    }
}
