//! The keys of a configuration, and the builder methods that they call.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde::Deserialize;

use super::{
    super::{
        builder::TokenEndpointBuilder, client_auth::ClientAuth, request::BodyFormat,
        response::Field,
    },
    assertion::Proof,
    exchange::Exchange,
    provider::Provider,
};
use crate::{
    data::{Either, SecretOrText, TextOrSecret, Written},
    secret::Secret,
};

/// The keys of the data.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    #[serde(alias = "system")]
    pub(super) provider: Option<Provider>,
    name: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) api_key: Option<Secret>,
    pub(super) url: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) client_secret: Option<Secret>,
    pub(super) client_assertion: Option<Proof>,
    pub(super) domain: Option<String>,
    pub(super) authorization_server: Option<String>,
    pub(super) base_url: Option<String>,
    pub(super) realm: Option<String>,
    #[cfg(feature = "jwt")]
    pub(super) key_file: Option<Secret>,
    client_auth: Option<ClientAuth>,
    body_format: Option<BodyFormat>,
    grant_type: Option<String>,
    pub(super) refresh_token: Option<Secret>,
    pub(super) token_exchange: Option<Exchange>,
    pub(super) jwt_bearer: Option<Secret>,
    #[cfg(feature = "keyed")]
    #[serde(default)]
    jwt_bearer_on_behalf_of: bool,
    scope: Option<String>,
    pub(super) audience: Option<String>,
    #[serde(default)]
    resource: Vec<String>,
    #[serde(default)]
    pub(super) params: BTreeMap<String, SecretOrText>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, TextOrSecret>,
    #[serde(default)]
    fields: HashMap<Field, String>,
    user_agent: Option<String>,
    timeout: Option<Written<Duration>>,
    connect_timeout: Option<Written<Duration>>,
    #[cfg(feature = "reqwest")]
    client_certificate: Option<Pair>,
    #[serde(default)]
    allow_plaintext: bool,
}

/// A certificate and its key.
#[cfg(feature = "reqwest")]
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    cert: Secret,
    key: Secret,
}

// ===== impl Settings =====

impl Settings {
    /// Refuses two grants: the builder would silently use the last one.
    pub(super) fn check_grant(&self) -> Result<(), String> {
        let is_other = self.grant_type.as_ref().is_some_and(|grant| grant != "refresh_token");
        #[cfg(feature = "keyed")]
        let is_on_behalf_of = self.jwt_bearer_on_behalf_of;
        #[cfg(not(feature = "keyed"))]
        let is_on_behalf_of = false;
        let grants = [
            ("refresh_token", self.refresh_token.is_some()),
            ("token_exchange", self.token_exchange.is_some()),
            ("jwt_bearer", self.jwt_bearer.is_some()),
            ("jwt_bearer_on_behalf_of", is_on_behalf_of),
        ];
        let mut grants = grants.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name);
        match (grants.next(), grants.next()) {
            (Some(grant), None) if is_other => {
                Err(format!("`grant_type` does not fit `{grant}`: leave it out"))
            }
            (Some(grant), Some(other)) => {
                Err(format!("`{grant}` and `{other}` are two grants: leave one out"))
            }
            _ => Ok(()),
        }
    }

    /// The certificate and its private key, with their configuration keys.
    #[cfg_attr(
        not(feature = "reqwest"),
        expect(clippy::unused_self, reason = "the same signature as with feature `reqwest`")
    )]
    pub(super) fn certificate(&self) -> impl Iterator<Item = (&str, &Secret)> {
        #[cfg(feature = "reqwest")]
        let pair = self.client_certificate.iter().flat_map(|Pair { cert, key }| {
            [("client_certificate.cert", cert), ("client_certificate.key", key)]
        });
        #[cfg(not(feature = "reqwest"))]
        let pair = std::iter::empty();
        pair
    }

    /// Applies the settings: `grant_type` first, because the grants override it.
    pub(super) fn apply(self, builder: TokenEndpointBuilder) -> TokenEndpointBuilder {
        use TokenEndpointBuilder as Builder;
        let builder = if self.allow_plaintext { builder.allow_plaintext() } else { builder };
        let builder = set(builder, self.name, Builder::name);
        let builder = set(builder, self.url, Builder::url);
        let builder = set(builder, self.client_id, Builder::client_id);
        let builder = set(builder, self.client_secret, Builder::client_secret);
        let assertion = self.client_assertion.and_then(Proof::settings);
        let builder = set(builder, assertion, Builder::client_assertion);
        let builder = set(builder, self.client_auth, Builder::client_auth);
        let builder = set(builder, self.body_format, Builder::body_format);
        let builder = set(builder, self.grant_type, Builder::grant_type);
        let builder = set(builder, self.refresh_token, Builder::refresh_token);
        let exchange = self.token_exchange.map(Exchange::settings);
        let builder = set(builder, exchange, Builder::token_exchange);
        let builder = set(builder, self.jwt_bearer, Builder::jwt_bearer);
        #[cfg(feature = "keyed")]
        let builder =
            if self.jwt_bearer_on_behalf_of { builder.jwt_bearer_on_behalf_of() } else { builder };
        let builder = set(builder, self.scope, Builder::scope);
        let builder = set(builder, self.audience, Builder::audience);
        let builder = set(builder, self.user_agent, Builder::user_agent);
        let builder = set(builder, seconds(self.timeout), Builder::timeout);
        let builder = set(builder, seconds(self.connect_timeout), Builder::connect_timeout);
        #[cfg(feature = "reqwest")]
        let builder = set(builder, self.client_certificate, |builder, Pair { cert, key }| {
            builder.client_certificate(cert, key)
        });
        let builder = self.resource.into_iter().fold(builder, Builder::resource);
        let builder =
            self.params.into_iter().fold(builder, |builder, (name, value)| match value.0 {
                Either::Text { text, .. } => builder.param(name, text),
                Either::Secret(secret) => builder.secret_param(name, secret),
            });
        let builder =
            self.headers.into_iter().fold(builder, |builder, (name, value)| match value.0 {
                Either::Text { text, .. } => builder.header(name, text),
                Either::Secret(secret) => builder.header(name, secret),
            });
        let fields = self.fields.into_iter();
        fields.fold(builder, |builder, (field, name)| builder.field(field, name))
    }
}

fn set<T>(
    builder: TokenEndpointBuilder,
    value: Option<T>,
    method: impl FnOnce(TokenEndpointBuilder, T) -> TokenEndpointBuilder,
) -> TokenEndpointBuilder {
    match value {
        Some(value) => method(builder, value),
        None => builder,
    }
}

fn seconds(written: Option<Written<Duration>>) -> Option<Duration> {
    written.map(|Written(duration)| duration)
}
