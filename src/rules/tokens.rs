//! Where the tokens of an origin come from.

use std::sync::{Arc, LazyLock};

use http::Extensions;

use super::pass::{Pass, Target};
use crate::{
    cache::{
        Granted, TokenCache,
        keyed::{Entry, KeyedTokenCache},
    },
    error::Refused,
    key::TokenKey,
    source::TokenSource,
};

/// Where the tokens of an origin come from: a [`TokenCache`], a [`KeyedTokenCache`], or a
/// [`TokenSource`], which gets a cache of its own.
///
/// [`BearerAuthLayer::from_cache`](crate::BearerAuthLayer::from_cache) and
/// [`BearerAuthLayer::route`](crate::BearerAuthLayer::route) take anything that converts into it.
#[derive(Clone, Debug)]
pub struct Tokens(Kind);

#[derive(Clone, Debug)]
enum Kind {
    One(TokenCache),
    Keyed(KeyedTokenCache),
}

/// Where the token of one request comes from.
pub(super) enum Supply {
    /// The only cache.
    One(TokenCache),
    /// The cache of the request's key. The pass is left beside it.
    Entry(Arc<Entry>),
}

// ===== impl Tokens =====

impl Tokens {
    /// Where the token of a request with these extensions comes from.
    pub(super) fn supply(
        &self,
        extensions: &Extensions,
        requires_subject: bool,
    ) -> Result<Supply, Refused> {
        let key = extensions.get::<TokenKey>();
        let subject = key.and_then(TokenKey::subject);
        if requires_subject && subject.is_none() {
            return Err(Refused::NoSubject);
        }
        match (&self.0, key) {
            (Kind::One(cache), None) => Ok(Supply::One(cache.clone())),
            (Kind::One(_), Some(_)) => Err(Refused::UnexpectedKey),
            (Kind::Keyed(keyed), key) => {
                keyed.entry(key.unwrap_or(&NO_KEY)).map(Supply::Entry).map_err(Refused::from)
            }
        }
    }

    /// The pass that was left for the next request with this key.
    pub(super) fn ready(
        &self,
        key: &TokenKey,
        is_good: impl FnOnce(&Pass) -> bool,
    ) -> Option<Arc<Pass>> {
        match &self.0 {
            Kind::One(_) => None,
            Kind::Keyed(keyed) => keyed.known(key)?.attached.get(is_good),
        }
    }

    /// Whether each subject has a token of its own.
    pub(super) fn takes_subjects(&self) -> bool {
        matches!(self.0, Kind::Keyed(_))
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::One(cache), Kind::One(other)) => cache.is_same(other),
            (Kind::Keyed(keyed), Kind::Keyed(other)) => keyed.is_same(other),
            _ => false,
        }
    }
}

/// The key of a request that brings none.
static NO_KEY: LazyLock<TokenKey> = LazyLock::new(TokenKey::new);

/// The source gets a cache of its own.
impl<S: TokenSource> From<S> for Tokens {
    fn from(source: S) -> Self {
        TokenCache::new(source).into()
    }
}

impl From<TokenCache> for Tokens {
    fn from(cache: TokenCache) -> Self {
        Self(Kind::One(cache))
    }
}

impl From<&TokenCache> for Tokens {
    fn from(cache: &TokenCache) -> Self {
        cache.clone().into()
    }
}

impl From<KeyedTokenCache> for Tokens {
    fn from(keyed: KeyedTokenCache) -> Self {
        Self(Kind::Keyed(keyed))
    }
}

impl From<&KeyedTokenCache> for Tokens {
    fn from(keyed: &KeyedTokenCache) -> Self {
        keyed.clone().into()
    }
}

// ===== impl Supply =====

impl Supply {
    pub(super) fn cache(&self) -> &TokenCache {
        match self {
            Self::One(cache) => cache,
            Self::Entry(entry) => entry.cache(),
        }
    }

    /// A pass for the place where it will be left: the slot of a route, or the entry, which all
    /// threads share.
    pub(super) fn pass(&self, target: Target, granted: Granted) -> Arc<Pass> {
        Arc::new(match self {
            Self::One(_) => Pass::of_one_thread(target, granted),
            Self::Entry(_) => Pass::new(target, granted),
        })
    }

    /// The pass that was left beside the cache, if `is_good` accepts it.
    pub(super) fn left(&self, is_good: impl FnOnce(&Pass) -> bool) -> Option<Arc<Pass>> {
        match self {
            Self::One(_) => None,
            Self::Entry(entry) => entry.attached.get(is_good),
        }
    }

    /// Leaves a pass beside the cache for the next request; `false` if it belongs in the slot of
    /// its route.
    pub(super) fn leave(&self, pass: &Arc<Pass>) -> bool {
        match self {
            Self::One(_) => false,
            Self::Entry(entry) => {
                entry.attached.set(Arc::clone(pass));
                true
            }
        }
    }
}
