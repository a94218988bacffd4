//! This crate, with its default features and settings.

use std::time::Duration;

use tower_bearer::{AccessToken, BearerAuthLayer, TokenCache, TokenError, from_fn};
use tower_bearer_benches::ORIGIN;
use tower_layer::Layer;

use super::{Auth, Inner, Outer};
use crate::token_service::TokenService;

/// How long a token lives beyond the time at which it is due. Of whole seconds the cache takes one
/// away.
const MARGIN: Duration = Duration::from_millis(1_100);

/// The default: requests are kept, so that one that is rejected can be sent again.
pub(super) struct CloneBody(BearerAuthLayer);

impl CloneBody {
    pub(super) fn new(tokens: &TokenService) -> Self {
        let service = tokens.clone();
        let source = from_fn(move |_| {
            let service = service.clone();
            async move {
                let token = AccessToken::new(service.issue().await);
                let token = token.map_err(TokenError::permanent)?;
                // Jitter makes it due within half of the time that is left then.
                Ok(token.with_lifetime(service.fresh + MARGIN).with_refresh_in(service.fresh))
            }
        });
        let layer = BearerAuthLayer::from_cache(TokenCache::new(source));
        Self(layer.origin(ORIGIN).expect("that is an origin"))
    }
}

impl Auth for CloneBody {
    fn before(&self, inner: impl Inner) -> impl Outer {
        self.0.layer(inner)
    }
}

/// Nothing is kept.
pub(super) struct NoReplay(CloneBody);

impl NoReplay {
    pub(super) fn new(tokens: &TokenService) -> Self {
        Self(CloneBody::new(tokens))
    }
}

impl Auth for NoReplay {
    fn before(&self, inner: impl Inner) -> impl Outer {
        self.0.0.clone().no_replay().layer(inner)
    }
}
