//! A token exchange as data.

use serde::Deserialize;

use super::super::token_exchange::{TokenExchange, TokenType};
use crate::secret::Secret;

/// The keys of the data.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exchange {
    subject_token: Option<Secret>,
    subject_token_type: Option<TokenType>,
    actor_token: Option<Secret>,
    actor_token_type: Option<TokenType>,
    requested_token_type: Option<TokenType>,
}

// ===== impl Exchange =====

impl Exchange {
    /// The secrets with their keys.
    pub(super) fn secrets(&self) -> [(&'static str, &Option<Secret>); 2] {
        [
            ("token_exchange.subject_token", &self.subject_token),
            ("token_exchange.actor_token", &self.actor_token),
        ]
    }

    pub(super) fn settings(self) -> TokenExchange {
        use TokenExchange as Settings;
        let settings = Settings::new();
        let settings = set(settings, self.subject_token, Settings::subject_token);
        let settings = set(settings, self.subject_token_type, Settings::subject_token_type);
        let settings = set(settings, self.actor_token, Settings::actor_token);
        let settings = set(settings, self.actor_token_type, Settings::actor_token_type);
        set(settings, self.requested_token_type, Settings::requested_token_type)
    }
}

fn set<T>(
    settings: TokenExchange,
    value: Option<T>,
    method: impl FnOnce(TokenExchange, T) -> TokenExchange,
) -> TokenExchange {
    match value {
        Some(value) => method(settings, value),
        None => settings,
    }
}
