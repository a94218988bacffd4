//! Where the tokens of an origin come from, without the feature `keyed`: from one cache.

use std::sync::Arc;

use http::Extensions;

use super::pass::{Pass, Target};
use crate::{
    cache::{Granted, TokenCache},
    error::Refused,
    source::TokenSource,
};

/// Where the tokens of an origin come from: a [`TokenCache`], or a [`TokenSource`], which gets a
/// cache of its own.
///
/// [`BearerAuthLayer::from_cache`](crate::BearerAuthLayer::from_cache) and
/// [`BearerAuthLayer::route`](crate::BearerAuthLayer::route) take anything that converts into it.
#[derive(Clone, Debug)]
pub struct Tokens(TokenCache);

/// Where the token of one request comes from.
pub(super) struct Supply(TokenCache);

// ===== impl Tokens =====

#[expect(
    clippy::unnecessary_wraps,
    clippy::unused_self,
    reason = "with the feature `keyed` there is more to it"
)]
impl Tokens {
    pub(super) fn supply(&self, _: &Extensions, _: bool) -> Result<Supply, Refused> {
        Ok(Supply(self.0.clone()))
    }

    pub(super) fn takes_subjects(&self) -> bool {
        false
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0.is_same(&other.0)
    }
}

/// The source gets a cache of its own.
impl<S: TokenSource> From<S> for Tokens {
    fn from(source: S) -> Self {
        TokenCache::new(source).into()
    }
}

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

// ===== impl Supply =====

#[expect(clippy::unused_self, reason = "with the feature `keyed` there is more to it")]
impl Supply {
    pub(super) fn cache(&self) -> &TokenCache {
        &self.0
    }

    /// A pass for the slot of a route.
    pub(super) fn pass(&self, target: Target, granted: Granted) -> Arc<Pass> {
        Arc::new(Pass::of_one_thread(target, granted))
    }

    pub(super) fn left(&self, _: impl FnOnce(&Pass) -> bool) -> Option<Arc<Pass>> {
        None
    }

    pub(super) fn leave(&self, _: &Arc<Pass>) -> bool {
        false
    }
}
