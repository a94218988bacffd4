//! Requests that say by their extensions which token they want.

use http::{Request, Uri};
use tokio::runtime::Runtime;
use tower_bearer::{AccessToken, BearerAuthLayer, KeyedTokenCache, Subject, TokenKey, from_fn};

use crate::{Body, MANY, ORIGIN, request, token};

/// [`MANY`] users, and a cache that has the token of each.
#[derive(Debug)]
pub struct Users {
    /// The key of each user.
    pub keys: Vec<TokenKey>,
    tokens: KeyedTokenCache,
}

impl Users {
    /// Fetches the token of each.
    #[must_use]
    pub fn new(runtime: &Runtime) -> Self {
        let tokens = KeyedTokenCache::builder(from_fn(|_| async { token(0) })).build();
        let tokens = tokens.expect("that are good settings");
        let keys: Vec<_> = (0..MANY).map(key).collect();
        for key in &keys {
            runtime.block_on(tokens.get(key)).expect("the source has a token");
        }
        Self { keys, tokens }
    }

    /// A layer that names one origin.
    #[must_use]
    pub fn layer(&self) -> BearerAuthLayer {
        BearerAuthLayer::from_cache(&self.tokens).origin(ORIGIN).expect("that is an origin")
    }
}

fn key(nth: usize) -> TokenKey {
    let user = AccessToken::new(format!("user-{nth}")).expect("that is a token");
    TokenKey::new().scope("invoices:read").on_behalf_of(Subject::new(user))
}

/// The request that is measured, with that key.
#[must_use]
pub fn keyed_request(uri: &Uri, key: &TokenKey) -> Request<Body> {
    let mut request = request(uri);
    request.extensions_mut().insert(key.clone());
    request
}
