//! Where tokens come from: one for all requests, or one for each user.

use serde::Deserialize;
use tokio::time::Instant;
use tower_bearer::{
    BearerAuthLayer, KeyedTokenCache, RefreshPolicy, Secret, TokenCache, TokenKey, TokenSource,
    local::{StoredToken, TokenCommand},
};

use crate::{config::Source, store::Store};

#[derive(Clone)]
pub(crate) enum Tokens {
    /// One for all requests.
    One(TokenCache),
    /// One for each user, in exchange for the token that the user's request brings.
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
        // The server keeps it warm: nothing is fetched for a configuration that cannot be.
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
            _ => Err("needs one of `oauth2`, `token` and `command`".to_owned()),
        }
    }

    /// Shared, if there is a store for that.
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

    /// A layer that puts them on. It never puts one token for all on a request of a user.
    pub(crate) fn layer(&self) -> BearerAuthLayer {
        match self {
            Self::One(cache) => BearerAuthLayer::from_cache(cache),
            Self::OfUsers(tokens) => BearerAuthLayer::from_cache(tokens).require_subject(),
        }
    }

    /// Fetches from now on, without a request. For users that cannot be.
    pub(crate) fn keep_warm(&self) {
        if let Self::One(cache) = self {
            cache.keep_warm();
        }
    }

    /// Until when nothing is fetched for such requests.
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
