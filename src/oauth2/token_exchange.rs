//! Token exchange (RFC 8693).

use super::text::Text;
use crate::secret::Secret;

/// The type of a token in a token exchange (RFC 8693 §3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenType {
    /// `urn:ietf:params:oauth:token-type:access_token`
    #[default]
    AccessToken,
    /// `urn:ietf:params:oauth:token-type:refresh_token`
    RefreshToken,
    /// `urn:ietf:params:oauth:token-type:id_token`
    IdToken,
    /// `urn:ietf:params:oauth:token-type:saml1`: a SAML 1.1 assertion in base64url.
    Saml1,
    /// `urn:ietf:params:oauth:token-type:saml2`: a SAML 2.0 assertion in base64url.
    Saml2,
    /// `urn:ietf:params:oauth:token-type:jwt`
    Jwt,
    /// A type that the service defines, by its URI.
    Other(String),
}

/// The settings of a token exchange (RFC 8693 §2.1). For an example, see
/// [`TokenEndpointBuilder::token_exchange`](super::TokenEndpointBuilder::token_exchange).
///
/// `scope`, `audience` and `resource` are those of the endpoint, or of the key.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TokenExchange {
    subject_token: Option<Secret>,
    subject_token_type: TokenType,
    actor_token: Option<Secret>,
    actor_token_type: Option<TokenType>,
    requested_token_type: Option<TokenType>,
}

// ===== impl TokenType =====

impl TokenType {
    const KNOWN: [Self; 6] =
        [Self::AccessToken, Self::RefreshToken, Self::IdToken, Self::Saml1, Self::Saml2, Self::Jwt];

    /// The URI of the type.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::AccessToken => "urn:ietf:params:oauth:token-type:access_token",
            Self::RefreshToken => "urn:ietf:params:oauth:token-type:refresh_token",
            Self::IdToken => "urn:ietf:params:oauth:token-type:id_token",
            Self::Saml1 => "urn:ietf:params:oauth:token-type:saml1",
            Self::Saml2 => "urn:ietf:params:oauth:token-type:saml2",
            Self::Jwt => "urn:ietf:params:oauth:token-type:jwt",
            Self::Other(uri) => uri,
        }
    }

    /// Whether the URI can be sent.
    fn is_valid(&self) -> bool {
        let uri = self.as_str();
        !uri.is_empty() && uri.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

/// The type with that URI.
impl From<&str> for TokenType {
    fn from(uri: &str) -> Self {
        let known = Self::KNOWN.into_iter().find(|known| known.as_str() == uri);
        known.unwrap_or_else(|| Self::Other(uri.to_owned()))
    }
}

/// The last part of a URI of RFC 8693 (`access_token`, `jwt`), or a whole URI.
#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for TokenType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_short_for = |known: &Self| known.as_str().rsplit(':').next() == Some(&text);
        match Self::KNOWN.into_iter().find(is_short_for) {
            Some(known) => Ok(known),
            None if text.contains(':') => Ok(text.as_str().into()),
            // The error does not show the text, which may be a misplaced token.
            None => Err(serde::de::Error::custom(
                "must be `access_token`, `refresh_token`, `id_token`, `saml1`, `saml2`, `jwt` or \
                 a URI",
            )),
        }
    }
}

// ===== impl TokenExchange =====

impl TokenExchange {
    /// The names of all parameters.
    pub(super) const PARAMS: &[&str] = &[
        "subject_token",
        "subject_token_type",
        "actor_token",
        "actor_token_type",
        "requested_token_type",
    ];

    /// Exchanges the token of the request's [`Subject`](crate::Subject), an access token, for
    /// another access token.
    pub fn new() -> Self {
        Self::default()
    }

    /// Exchanges this token for every request, in place of the token of the request's
    /// [`Subject`](crate::Subject). A request with a subject then fails.
    pub fn subject_token(mut self, subject_token: impl Into<Secret>) -> Self {
        self.subject_token = Some(subject_token.into());
        self
    }

    /// Sets the type of the subject's token. The default is [`TokenType::AccessToken`].
    pub fn subject_token_type(mut self, token_type: TokenType) -> Self {
        self.subject_token_type = token_type;
        self
    }

    /// Adds the token of the party that acts on the subject's behalf (RFC 8693 §1.1: delegation).
    ///
    /// If the actor's token comes from another source, read it from that source's cache:
    ///
    /// ```
    /// use tower_bearer::{Secret, TokenCache, oauth2::TokenExchange};
    ///
    /// fn acting(cache: TokenCache) -> TokenExchange {
    ///     TokenExchange::new().actor_token(Secret::from_fn(move || {
    ///         let cache = cache.clone();
    ///         async move { Ok(cache.get().await?.secret().to_owned()) }
    ///     }))
    /// }
    /// ```
    pub fn actor_token(mut self, actor_token: impl Into<Secret>) -> Self {
        self.actor_token = Some(actor_token.into());
        self
    }

    /// Sets the type of the actor's token. The default, with an actor, is
    /// [`TokenType::AccessToken`].
    pub fn actor_token_type(mut self, token_type: TokenType) -> Self {
        self.actor_token_type = Some(token_type);
        self
    }

    /// Sets the type of token to request. By default the service decides.
    ///
    /// An answer with another `issued_token_type` is an error. For a type other than an access
    /// token the service may answer `"token_type":"N_A"` (RFC 8693 §2.2.1). The layer then sends
    /// the token as a bearer token, because you have requested it.
    pub fn requested_token_type(mut self, token_type: TokenType) -> Self {
        self.requested_token_type = Some(token_type);
        self
    }

    /// Whether the token of the request's subject is exchanged.
    pub(super) fn takes_subject(&self) -> bool {
        self.subject_token.is_none()
    }

    pub(super) fn requested(&self) -> Option<&TokenType> {
        self.requested_token_type.as_ref()
    }

    /// The method and the problem of an invalid setting.
    pub(super) fn problem(&self) -> Option<(&'static str, &'static str)> {
        if self.actor_token.is_none() && self.actor_token_type.is_some() {
            let problem = "is the type of an `.actor_token(..)`, but there is none (RFC 8693 §2.1)";
            return Some(("actor_token_type", problem));
        }
        [
            ("subject_token_type", Some(&self.subject_token_type)),
            ("actor_token_type", self.actor_token_type.as_ref()),
            ("requested_token_type", self.requested_token_type.as_ref()),
        ]
        .into_iter()
        .find(|(_, token_type)| token_type.is_some_and(|token_type| !token_type.is_valid()))
        .map(|(name, _)| (name, "is not a URI: it is empty, or not printable ASCII"))
    }

    /// The parameters, without the token of the request's subject.
    pub(super) fn params(self) -> Vec<(String, Text)> {
        let Self { subject_token, subject_token_type, actor_token, actor_token_type, .. } = self;
        let plain = |token_type: TokenType| Text::Plain(token_type.as_str().to_owned());
        let actor_token_type =
            actor_token_type.or(actor_token.is_some().then_some(TokenType::AccessToken));
        [
            ("subject_token", subject_token.map(Text::Secret)),
            ("subject_token_type", Some(plain(subject_token_type))),
            ("actor_token", actor_token.map(Text::Secret)),
            ("actor_token_type", actor_token_type.map(plain)),
            ("requested_token_type", self.requested_token_type.map(plain)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_found_by_its_uri() {
        for known in TokenType::KNOWN {
            assert_eq!(TokenType::from(known.as_str()), known);
        }
        let own = TokenType::from("https://sts.example.com/types/ticket");
        assert_eq!(own, TokenType::Other("https://sts.example.com/types/ticket".to_owned()));
    }
}
