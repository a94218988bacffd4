//! The token caches: one token for all requests, or one for each user.

use serde::Deserialize;
use tokio::time::Instant;
use tower_bearer::{
    BearerAuthLayer, KeyedTokenCache, RefreshPolicy, Secret, TokenCache, TokenKey, TokenSource,
    local::{StoredToken, TokenCommand},
};

use crate::{config::Source, store::Store};

#[derive(Clone)]
pub(crate) enum Tokens {
    /// One token for all requests.
    One(TokenCache),
    /// One token for each user, exchanged for the token in the user's request.
    OfUsers(KeyedTokenCache),
}

impl Tokens {
    pub(crate) async fn of(
        name: &str,
        source: Source,
        store: Option<&Store>,
        allow_commands: bool,
    ) -> Result<Self, String> {
        let Source { oauth2, token, command, mut policy } = source;
        // The server calls `keep_warm` once the whole configuration has been checked.
        policy.insert("keep_warm".to_owned(), false.into());
        let policy = RefreshPolicy::deserialize(policy)
            .map_err(|error| format!("`policy`: {}", error.message()))?;
        match (oauth2, token, command) {
            (Some(config), None, None) => {
                for (key, secret) in config.secrets() {
                    readable(key, secret).await?;
                }
                let endpoint = config.builder().build().map_err(|error| error.to_string())?;
                if endpoint.takes_subject() {
                    return match store {
                        Some(store) => Self::of_users(name, store.share(name, endpoint), policy),
                        None => Self::of_users(name, endpoint, policy),
                    };
                }
                Ok(Self::one_of(name, endpoint, store, policy))
            }
            (None, Some(token), None) => {
                readable("token", &token).await?;
                Ok(Self::one(name, StoredToken::new(token), policy))
            }
            (None, None, Some(command)) => {
                if !allow_commands {
                    let problem =
                        "`command` runs a program: start the sidecar with --allow-commands";
                    return Err(problem.to_owned());
                }
                let (program, args) = command.split_first().ok_or("`command` is empty")?;
                let command = TokenCommand::new(program).args(args);
                Ok(Self::one_of(name, command, store, policy))
            }
            _ => Err("needs exactly one of `oauth2`, `token` and `command`".to_owned()),
        }
    }

    /// One token for all requests, shared over the store if there is one.
    fn one_of(
        name: &str,
        source: impl TokenSource,
        store: Option<&Store>,
        policy: RefreshPolicy,
    ) -> Self {
        match store {
            Some(store) => Self::one(name, store.share(name, source), policy),
            None => Self::one(name, source, policy),
        }
    }

    fn one(name: &str, source: impl TokenSource, policy: RefreshPolicy) -> Self {
        Self::One(TokenCache::with_policy(source, policy).named(name))
    }

    fn of_users(
        name: &str,
        source: impl TokenSource,
        policy: RefreshPolicy,
    ) -> Result<Self, String> {
        let tokens = KeyedTokenCache::builder(source).named(name).policy(policy).build();
        tokens.map(Self::OfUsers).map_err(|error| error.to_string())
    }

    /// A layer that adds the tokens. With tokens of users it requires a user in each request.
    pub(crate) fn layer(&self) -> BearerAuthLayer {
        match self {
            Self::One(cache) => BearerAuthLayer::from_cache(cache),
            Self::OfUsers(tokens) => BearerAuthLayer::from_cache(tokens).require_subject(),
        }
    }

    /// Starts to fetch without a request. Tokens of users need a request.
    pub(crate) fn keep_warm(&self) {
        if let Self::One(cache) = self {
            cache.keep_warm();
        }
    }

    /// The end of the cooldown for requests with this key.
    pub(crate) fn cooldown_until(&self, key: Option<&TokenKey>) -> Option<Instant> {
        match (self, key) {
            (Self::One(cache), _) => cache.status().cooldown_until(),
            (Self::OfUsers(tokens), Some(key)) => tokens.cache(key).status().cooldown_until(),
            (Self::OfUsers(_), None) => None,
        }
    }
}

pub(crate) async fn readable(key: &str, secret: &Secret) -> Result<(), String> {
    secret.read().await.map(drop).map_err(|error| format!("`{key}`: {error}"))
}
