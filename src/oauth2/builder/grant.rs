//! The chosen grant and its parameters.

use super::{
    super::{
        refresh::{Grant, Hook, Refresh},
        text::Text,
        token_exchange::{TokenExchange, TokenType},
    },
    checks::InvalidEndpoint,
};
use crate::secret::Secret;

#[cfg(feature = "jwt")]
use super::super::assertion::ServiceAccount;

pub(super) const CLIENT_CREDENTIALS: &str = "client_credentials";
const REFRESH_TOKEN: &str = "refresh_token";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The parameter that carries the token of a request's subject.
const SUBJECT_TOKEN: &str = "subject_token";
const ASSERTION: &str = "assertion";

/// The grant that was set last.
pub(super) enum Chosen {
    /// Its values are among the parameters.
    Plain(String),
    RefreshToken(Secret),
    TokenExchange(TokenExchange),
    JwtBearer(Secret),
    /// An assertion that this crate signs with the key of a service account.
    #[cfg(feature = "jwt")]
    ServiceAccount(Secret),
    /// An assertion that is the token of the request's subject.
    #[cfg(feature = "keyed")]
    JwtBearerOnBehalfOf,
}

// ===== impl Chosen =====

impl Chosen {
    pub(super) fn grant_type(&self) -> &str {
        match self {
            Self::Plain(grant_type) => grant_type,
            Self::RefreshToken(_) => REFRESH_TOKEN,
            Self::TokenExchange(_) => TOKEN_EXCHANGE,
            Self::JwtBearer(_) => JWT_BEARER,
            #[cfg(feature = "jwt")]
            Self::ServiceAccount(_) => JWT_BEARER,
            #[cfg(feature = "keyed")]
            Self::JwtBearerOnBehalfOf => JWT_BEARER,
        }
    }

    /// The signer of the grant.
    #[cfg(feature = "jwt")]
    pub(super) fn service_account(&self) -> Option<ServiceAccount> {
        match self {
            Self::ServiceAccount(file) => Some(ServiceAccount::new(file.clone())),
            _ => None,
        }
    }

    pub(super) fn is_refresh(&self) -> bool {
        matches!(self, Self::RefreshToken(_))
    }

    pub(super) fn check(
        &self,
        params: &[(String, Text)],
        has_hook: bool,
    ) -> Result<(), InvalidEndpoint> {
        if has_hook && !self.is_refresh() {
            let problem = "would never be called: add `.refresh_token(..)`";
            return Err(InvalidEndpoint::setting("on_new_refresh_token", problem));
        }
        match self {
            Self::Plain(grant_type) if grant_type.is_empty() => {
                Err(InvalidEndpoint::setting("grant_type", "is empty"))
            }
            Self::Plain(grant_type) if grant_type == REFRESH_TOKEN => {
                let problem = "needs the token: use `.refresh_token(..)` instead";
                Err(InvalidEndpoint::setting("grant_type", problem))
            }
            Self::TokenExchange(exchange) => {
                if let Some((name, problem)) = exchange.problem() {
                    return Err(InvalidEndpoint::setting(name, problem));
                }
                if exchange.takes_subject() && !cfg!(feature = "keyed") {
                    let problem = "is missing: requests have subjects with feature `keyed` only";
                    return Err(InvalidEndpoint::setting("subject_token", problem));
                }
                no_other(TokenExchange::PARAMS, params)
            }
            Self::JwtBearer(_) => no_other(&[ASSERTION], params),
            #[cfg(feature = "jwt")]
            Self::ServiceAccount(_) => no_other(&[ASSERTION], params),
            #[cfg(feature = "keyed")]
            Self::JwtBearerOnBehalfOf => no_other(&[ASSERTION], params),
            Self::Plain(_) | Self::RefreshToken(_) => Ok(()),
        }
    }

    /// The parameter that carries the token of the request's subject, if there is one.
    fn subject(&self) -> Option<&'static str> {
        match self {
            Self::TokenExchange(exchange) if exchange.takes_subject() => Some(SUBJECT_TOKEN),
            #[cfg(feature = "keyed")]
            Self::JwtBearerOnBehalfOf => Some(ASSERTION),
            _ => None,
        }
    }

    /// The grant, its own parameters, and the type of token that it must return.
    pub(super) fn into_parts(
        self,
        hook: Option<Box<Hook>>,
    ) -> (Grant, Vec<(String, Text)>, Option<TokenType>) {
        let grant = self.subject().map_or(Grant::Repeated, Grant::Subject);
        match self {
            Self::RefreshToken(initial) => {
                (Grant::Refresh(Box::new(Refresh::new(initial, hook))), Vec::new(), None)
            }
            Self::TokenExchange(exchange) => {
                let requested = exchange.requested().cloned();
                (grant, exchange.params(), requested)
            }
            Self::JwtBearer(assertion) => {
                (grant, vec![(ASSERTION.to_owned(), Text::Secret(assertion))], None)
            }
            Self::Plain(_) => (grant, Vec::new(), None),
            #[cfg(feature = "jwt")]
            Self::ServiceAccount(_) => (grant, Vec::new(), None),
            #[cfg(feature = "keyed")]
            Self::JwtBearerOnBehalfOf => (grant, Vec::new(), None),
        }
    }
}

/// No parameter may occur twice (RFC 6749 §3.2).
fn no_other(own: &[&str], params: &[(String, Text)]) -> Result<(), InvalidEndpoint> {
    match params.iter().find(|(name, _)| own.contains(&name.as_str())) {
        Some((name, _)) => {
            let problem = "belongs to the grant: use the grant's own setting";
            Err(InvalidEndpoint::Param { name: name.clone(), problem })
        }
        None => Ok(()),
    }
}
