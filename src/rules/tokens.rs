//! Where the tokens of an origin come from.

use crate::cache::TokenCache;

/// Where the tokens of an origin come from: a [`TokenCache`].
///
/// [`BearerAuthLayer::from_cache`](crate::BearerAuthLayer::from_cache) and
/// [`BearerAuthLayer::route`](crate::BearerAuthLayer::route) take whatever becomes one.
#[derive(Clone, Debug)]
pub struct Tokens(pub(super) TokenCache);

// ===== impl Tokens =====

impl From<TokenCache> for Tokens {
    fn from(cache: TokenCache) -> Self {
        Self(cache)
    }
}

impl From<&TokenCache> for Tokens {
    fn from(cache: &TokenCache) -> Self {
        Self(cache.clone())
    }
}

impl Tokens {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0.is_same(&other.0)
    }
}
