//! A token endpoint as data.

mod base;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error};

use self::base::{Base, Provider};
use super::{BodyFormat, ClientAuth, Field, TokenEndpointBuilder};
use crate::{
    data::{Either, SecretOrText, TextOrSecret, Written, keyed},
    secret::Secret,
};

/// A [`TokenEndpoint`](super::TokenEndpoint) as data, to be read with serde from TOML, JSON or
/// any other format.
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
/// Each is named after the method of [`TokenEndpointBuilder`] that it calls, which documents it.
///
/// | key | value |
/// | --- | --- |
/// | `url` | a text: needed without `provider`, another URL with it |
/// | `client_id`, `scope`, `audience`, `grant_type`, `user_agent` | a text |
/// | `client_secret`, `refresh_token` | a secret |
/// | `client_auth` | `"basic"`, `"basic_raw"`, `"body"` or `"none"` |
/// | `body_format` | `"form"` or `"json"` |
/// | `resource` | a list of URIs |
/// | `params` | a map of names to secrets, or to `{ text = "…" }` for what is none |
/// | `headers` | a map of names to texts, which errors may show, or to secrets |
/// | `fields` | a map of [`Field`]s (`access_token`, `expires_in`, …) to names |
/// | `timeout`, `connect_timeout` | a number of seconds |
/// | `allow_plaintext` | `true` or `false` |
///
/// A service that is known by name needs but a few, to which the others can be added:
///
/// | `provider` | needs |
/// | --- | --- |
/// | `"ibm_cloud"` | `api_key`, a secret |
/// | `"ibm_verify"` | `tenant`, a host name; `client_id`; `client_secret` |
/// | `"greennode"` | `client_id`; `client_secret` |
/// | `"ianum"` | `client_id`; `client_secret` |
///
/// # Secrets
///
/// A secret is never part of the data, which says where it is kept: `{ env = "NAME" }`,
/// `{ file = "PATH" }`, or `{ json_file = "PATH", member = "NAME" }`. One that is written out
/// is refused.
///
/// # Errors
///
/// A key that is unknown, missing, contradicts another one, or has a value that it cannot have
/// is named by the error, which shows no value, and no key that does not look like one. The
/// error knows no line. Where this is a part of something larger, a format adds the line in
/// which that part begins; and mind that `toml::de::Error` may quote it when it is displayed, in
/// which there may be a secret. Its `message()` does not.
///
/// Whether the values make an endpoint is checked by
/// [`build`](TokenEndpointBuilder::build), and whether the secrets can be read by whoever reads
/// [`secrets`](Self::secrets).
#[derive(Clone)]
pub struct Config {
    base: Base,
    settings: Settings,
}

/// What is written, key by key.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(alias = "system")]
    provider: Option<Provider>,
    tenant: Option<String>,
    api_key: Option<Secret>,
    url: Option<String>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    client_auth: Option<ClientAuth>,
    body_format: Option<BodyFormat>,
    grant_type: Option<String>,
    refresh_token: Option<Secret>,
    scope: Option<String>,
    audience: Option<String>,
    #[serde(default)]
    resource: Vec<String>,
    #[serde(default)]
    params: BTreeMap<String, SecretOrText>,
    #[serde(default)]
    headers: BTreeMap<String, TextOrSecret>,
    #[serde(default)]
    fields: HashMap<Field, String>,
    user_agent: Option<String>,
    timeout: Option<Written<Duration>>,
    connect_timeout: Option<Written<Duration>>,
    #[serde(default)]
    allow_plaintext: bool,
}

// ===== impl Config =====

impl Config {
    /// A builder with everything that was written. A transport, or a hook for refresh tokens,
    /// can be added to it.
    pub fn builder(&self) -> TokenEndpointBuilder {
        self.settings.clone().apply(self.base.builder())
    }

    /// Every secret, with its key, and every parameter: to find out before anything starts that
    /// one cannot be read.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, &Secret)> {
        let Settings { api_key, client_secret, refresh_token, params, headers, .. } =
            &self.settings;
        let params = params.iter().map(|(name, SecretOrText(value))| (name, value.secret()));
        let headers = headers.iter().filter(|(_, TextOrSecret(value))| !value.is_text());
        let headers = headers.map(|(name, TextOrSecret(value))| (name, value.secret()));
        let others = params.chain(headers).map(|(name, secret)| (name.as_str(), secret));
        [("api_key", api_key), ("client_secret", client_secret), ("refresh_token", refresh_token)]
            .into_iter()
            .filter_map(|(key, secret)| Some((key, secret.as_ref()?)))
            .chain(others)
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings: Settings = keyed(deserializer)?;
        settings.check_grant().map_err(D::Error::custom)?;
        let base = Base::of(&settings).map_err(D::Error::custom)?;
        Ok(Self { base, settings })
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither URLs nor headers, in which there may be a password after all.
        f.debug_struct("Config")
            .field("provider", &self.settings.provider)
            .field("client_id", &self.settings.client_id)
            .field("secrets", &self.secrets().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

// ===== impl Settings =====

impl Settings {
    /// The builder would take the one that it was told last.
    fn check_grant(&self) -> Result<(), &'static str> {
        let is_other = self.grant_type.as_ref().is_some_and(|grant| grant != "refresh_token");
        if is_other && self.refresh_token.is_some() {
            return Err("`grant_type` is another one than `refresh_token` needs: leave it out");
        }
        Ok(())
    }

    /// The grant's type comes before the refresh token, which sets it too.
    fn apply(self, builder: TokenEndpointBuilder) -> TokenEndpointBuilder {
        use TokenEndpointBuilder as Builder;
        let builder = if self.allow_plaintext { builder.allow_plaintext() } else { builder };
        let builder = set(builder, self.url, Builder::url);
        let builder = set(builder, self.client_id, Builder::client_id);
        let builder = set(builder, self.client_secret, Builder::client_secret);
        let builder = set(builder, self.client_auth, Builder::client_auth);
        let builder = set(builder, self.body_format, Builder::body_format);
        let builder = set(builder, self.grant_type, Builder::grant_type);
        let builder = set(builder, self.refresh_token, Builder::refresh_token);
        let builder = set(builder, self.scope, Builder::scope);
        let builder = set(builder, self.audience, Builder::audience);
        let builder = set(builder, self.user_agent, Builder::user_agent);
        let builder = set(builder, seconds(self.timeout), Builder::timeout);
        let builder = set(builder, seconds(self.connect_timeout), Builder::connect_timeout);
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
