//! Where a request goes, whose token it gets, and what the response says of that token: the
//! same for the layer and for every other chain.

use http::{Uri, response};

use crate::{AccessToken, Challenge, Origin, Rejection, TokenCache, layer::Config};

/// A response extension: the URI that the response came from, if whatever is below has followed
/// a redirect.
///
/// A 401 from another origin than the one that the request named is no rejection of the token,
/// which did not go there. [`ReqwestService`](crate::oauth2::ReqwestService) sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalUri(pub Uri);

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
            // A server's error, and a refusal for another reason, say nothing of the token.
            if response.status.as_u16() < 400 {
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
