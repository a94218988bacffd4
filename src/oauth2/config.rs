//! Configuration of a token endpoint as data.

mod assertion;
mod base;
mod exchange;
mod provider;
mod settings;

use std::fmt;

use serde::{Deserialize, Deserializer, de::Error};

use self::{assertion::Proof, base::Base, exchange::Exchange, settings::Settings};
use super::builder::TokenEndpointBuilder;
use crate::{
    data::{SecretOrText, TextOrSecret, keyed},
    secret::Secret,
};

/// The configuration of a [`TokenEndpoint`](super::TokenEndpoint) as data, which serde reads from
/// TOML, JSON or any other format.
///
/// ```
/// use tower_bearer::oauth2::Config;
///
/// let config: Config = toml::from_str(r#"
///     url = "https://auth.example.com/token"
///     client_id = "my-app"
///     client_secret = { env = "CLIENT_SECRET" }
///     scope = "invoices.read"
/// "#)?;
/// # #[cfg(feature = "reqwest")]
/// let endpoint = config.builder().build()?;
///
/// let ibm: Config = toml::from_str(r#"
///     provider = "ibm_cloud"
///     api_key = { json_file = "key.json", member = "apikey" }
/// "#)?;
/// # Ok::<(), tower_bearer::BoxError>(())
/// ```
///
/// # Keys
///
/// Each key has the name of the method of [`TokenEndpointBuilder`] that it calls. The method
/// documents it.
///
/// | key | value |
/// | --- | --- |
/// | `url` | a text: required without `issuer` or `provider`; with a `provider`, replaces its URL |
/// | `issuer` | a text, in place of `url`: [`discover`](super::TokenEndpoint::discover) |
/// | `name`, `client_id`, `scope`, `audience`, `grant_type`, `user_agent` | a text |
/// | `client_secret`, `refresh_token`, `jwt_bearer` | a secret |
/// | `jwt_bearer_on_behalf_of` | `true` or `false` (feature `keyed`) |
/// | `token_exchange` | a map, which may be empty: `subject_token` and `actor_token`, secrets; `subject_token_type`, `actor_token_type` and `requested_token_type`: `"access_token"`, `"refresh_token"`, `"id_token"`, `"saml1"`, `"saml2"`, `"jwt"` or a URI |
/// | `client_assertion` | a map with `token`, a secret, and perhaps `assertion_type`: `"jwt_bearer"` or `"jwt_spiffe"`; or, with feature `jwt`, `private_key` (and perhaps `certificate`) or `client_secret`, which are secrets, `issuer`, `audience` or `token_endpoint_audience = true`, `key_id`, `algorithm` (`"ES256"`), `header_type`, `lifetime` |
/// | `client_auth` | `"basic"`, `"basic_raw"`, `"body"` or `"none"` |
/// | `body_format` | `"form"` or `"json"` |
/// | `resource` | a list of URIs |
/// | `params` | a map of names to secrets, or to `{ text = "…" }` for a value that is not secret |
/// | `headers` | a map of names to texts, which errors may show, or to secrets |
/// | `fields` | a map of [`Field`](super::Field)s (`access_token`, `expires_in`, …) to names |
/// | `client_certificate` | a map: `cert` and `key`, secrets (feature `reqwest`) |
/// | `timeout`, `connect_timeout` | a number of seconds |
/// | `allow_plaintext` | `true` or `false` |
///
/// A `provider` needs few keys. You can add the others:
///
/// | `provider` | needs |
/// | --- | --- |
/// | `"ibm_cloud"` | `api_key`, a secret |
/// | `"ibm_verify"` | `tenant`, a host name; `client_id`; `client_secret` |
/// | `"greennode"` | `client_id`; `client_secret` |
/// | `"ianum"` | `client_id`; `client_secret` |
/// | `"entra"` | `tenant`, an id or a domain name; `client_id` |
/// | `"entra_workload_identity"` | the variables of [its environment](super::providers::entra_workload_identity), read when the data is deserialized |
/// | `"auth0"` | `domain`; `client_id`; `audience` |
/// | `"okta"` | `domain`; `client_id`; `authorization_server`, unless it is the organization's own |
/// | `"keycloak"` | `base_url`; `realm`; `client_id` |
/// | `"google_service_account"` (feature `jwt`) | `key_file`, a secret |
/// | `"entra_on_behalf_of"` (feature `keyed`) | `tenant`, an id or a domain name; `client_id`; `client_secret` |
///
/// # Secrets
///
/// The data never contains a secret. It names the place of a secret: `{ env = "NAME" }`,
/// `{ file = "PATH" }`, or `{ json_file = "PATH", member = "NAME" }`. A literal secret is an error.
///
/// # Errors
///
/// The error names a key that is unknown, missing, in conflict with another one, or has an invalid
/// value. It shows no value, and no key that does not look like one. It has no line number. If this
/// is part of a larger document, the format adds the line in which this part begins. Note that
/// `toml::de::Error` may quote that line when it is displayed, and the line may contain a secret.
/// Its `message()` does not quote it.
///
/// [`build`](TokenEndpointBuilder::build) checks whether the values make an endpoint. To check that
/// the secrets can be read, read [`secrets`](Self::secrets).
#[derive(Clone)]
pub struct Config {
    base: Base,
    settings: Settings,
}

// ===== impl Config =====

impl Config {
    /// Returns a builder with all settings of the data. You can add a transport, or a hook for
    /// refresh tokens.
    pub fn builder(&self) -> TokenEndpointBuilder {
        self.settings.clone().apply(self.base.builder())
    }

    /// Returns every secret and every parameter with its key, so that you can check at startup that
    /// each can be read.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, &Secret)> {
        let Settings { api_key, client_secret, refresh_token, jwt_bearer, params, headers, .. } =
            &self.settings;
        let exchange = self.settings.token_exchange.iter().flat_map(Exchange::secrets);
        let assertion = self.settings.client_assertion.iter().flat_map(Proof::secrets);
        #[cfg(feature = "jwt")]
        let assertion = assertion.chain([("key_file", &self.settings.key_file)]);
        let params = params.iter().map(|(name, SecretOrText(value))| (name, value.secret()));
        let headers = headers.iter().filter(|(_, TextOrSecret(value))| !value.is_text());
        let headers = headers.map(|(name, TextOrSecret(value))| (name, value.secret()));
        let others = params.chain(headers).map(|(name, secret)| (name.as_str(), secret));
        [
            ("api_key", api_key),
            ("client_secret", client_secret),
            ("refresh_token", refresh_token),
            ("jwt_bearer", jwt_bearer),
        ]
        .into_iter()
        .chain(exchange)
        .chain(assertion)
        .filter_map(|(key, secret)| Some((key, secret.as_ref()?)))
        .chain(self.settings.certificate())
        .chain(others)
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings: Settings = keyed(deserializer)?;
        settings.check_grant().map_err(D::Error::custom)?;
        let assertion = settings.client_assertion.as_ref();
        assertion.map_or(Ok(()), Proof::check).map_err(D::Error::custom)?;
        let base = Base::of(&settings).map_err(D::Error::custom)?;
        Ok(Self { base, settings })
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without URLs and headers, which may contain a password.
        f.debug_struct("Config")
            .field("provider", &self.settings.provider)
            .field("client_id", &self.settings.client_id)
            .field("secrets", &self.secrets().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
