//! The start of a configuration: a URL, an issuer or a known service.

use super::{
    super::{
        builder::TokenEndpointBuilder,
        endpoint::TokenEndpoint,
        providers::{self, WorkloadIdentity},
    },
    provider::Provider,
    settings::Settings,
};
use crate::secret::Secret;

/// The keys that choose and parameterize the start.
#[derive(Clone)]
pub(super) enum Base {
    Url(String),
    Issuer(String),
    IbmCloud {
        api_key: Secret,
    },
    IbmVerify {
        tenant: String,
        client: Client,
    },
    Greennode(Client),
    Ianum(Client),
    #[cfg(feature = "keyed")]
    EntraOnBehalfOf {
        tenant: String,
        client: Client,
    },
    Entra {
        tenant: String,
        client_id: String,
    },
    EntraWorkloadIdentity(WorkloadIdentity),
    Auth0 {
        domain: String,
        client_id: String,
        audience: String,
    },
    Okta {
        domain: String,
        server: Option<String>,
        client_id: String,
    },
    Keycloak {
        base_url: String,
        realm: String,
        client_id: String,
    },
    #[cfg(feature = "jwt")]
    GoogleServiceAccount(Secret),
}

#[derive(Clone)]
pub(super) struct Client {
    id: String,
    secret: Secret,
}

/// The providers with tenants.
const WITH_TENANT: &[Provider] = &[
    Provider::IbmVerify,
    #[cfg(feature = "keyed")]
    Provider::EntraOnBehalfOf,
    Provider::Entra,
];
/// The providers with a domain.
const WITH_DOMAIN: &[Provider] = &[Provider::Auth0, Provider::Okta];

// ===== impl Base =====

impl Base {
    /// Takes the required keys, and refuses keys of another provider.
    pub(super) fn of(settings: &Settings) -> Result<Self, String> {
        let Settings { provider, tenant, api_key, url, issuer, client_id, client_secret, .. } =
            settings;
        let Settings { domain, authorization_server, base_url, realm, audience, .. } = settings;
        only_for(&[Provider::IbmCloud], "api_key", api_key.is_some(), *provider)?;
        only_for(WITH_TENANT, "tenant", tenant.is_some(), *provider)?;
        only_for(WITH_DOMAIN, "domain", domain.is_some(), *provider)?;
        let okta = &[Provider::Okta];
        only_for(okta, "authorization_server", authorization_server.is_some(), *provider)?;
        only_for(&[Provider::Keycloak], "base_url", base_url.is_some(), *provider)?;
        only_for(&[Provider::Keycloak], "realm", realm.is_some(), *provider)?;
        #[cfg(feature = "jwt")]
        {
            let google = &[Provider::GoogleServiceAccount];
            only_for(google, "key_file", settings.key_file.is_some(), *provider)?;
        }
        let Some(provider) = *provider else {
            return match (url.clone(), issuer.clone()) {
                (Some(url), None) => Ok(Self::Url(url)),
                (None, Some(issuer)) => Ok(Self::Issuer(issuer)),
                (Some(_), Some(_)) => {
                    Err("`issuer` and `url` exclude each other: leave one out".to_owned())
                }
                (None, None) => {
                    Err("`url` is missing: write it, or an `issuer` or a `provider`".to_owned())
                }
            };
        };
        if issuer.is_some() {
            return Err("`issuer` and `provider` exclude each other: leave one out".to_owned());
        }
        let text = |key: &str, value: &Option<String>| needed(key, value.as_ref(), provider);
        let client = || {
            let id = needed("client_id", client_id.as_ref(), provider)?;
            needed("client_secret", client_secret.as_ref(), provider)
                .map(|secret| Client { id, secret })
        };
        match provider {
            Provider::IbmCloud => needed("api_key", api_key.as_ref(), provider)
                .map(|api_key| Self::IbmCloud { api_key }),
            Provider::IbmVerify => {
                let tenant = needed("tenant", tenant.as_ref(), provider)?;
                client().map(|client| Self::IbmVerify { tenant, client })
            }
            Provider::Greennode => client().map(Self::Greennode),
            Provider::Ianum => client().map(Self::Ianum),
            #[cfg(feature = "keyed")]
            Provider::EntraOnBehalfOf => {
                let tenant = needed("tenant", tenant.as_ref(), provider)?;
                client().map(|client| Self::EntraOnBehalfOf { tenant, client })
            }
            Provider::Entra => Ok(Self::Entra {
                tenant: text("tenant", tenant)?,
                client_id: text("client_id", client_id)?,
            }),
            Provider::EntraWorkloadIdentity => WorkloadIdentity::from_env()
                .map(Self::EntraWorkloadIdentity)
                .map_err(|error| error.to_string()),
            Provider::Auth0 => Ok(Self::Auth0 {
                domain: text("domain", domain)?,
                client_id: text("client_id", client_id)?,
                audience: text("audience", audience)?,
            }),
            Provider::Okta => Ok(Self::Okta {
                domain: text("domain", domain)?,
                server: authorization_server.clone(),
                client_id: text("client_id", client_id)?,
            }),
            Provider::Keycloak => Ok(Self::Keycloak {
                base_url: text("base_url", base_url)?,
                realm: text("realm", realm)?,
                client_id: text("client_id", client_id)?,
            }),
            #[cfg(feature = "jwt")]
            Provider::GoogleServiceAccount => {
                let file = needed("key_file", settings.key_file.as_ref(), provider);
                file.map(Self::GoogleServiceAccount)
            }
        }
    }

    pub(super) fn builder(&self) -> TokenEndpointBuilder {
        match self.clone() {
            Self::Url(url) => TokenEndpoint::builder(url),
            Self::Issuer(issuer) => TokenEndpoint::discover(issuer),
            Self::IbmCloud { api_key } => providers::ibm_cloud(api_key),
            Self::IbmVerify { tenant, client } => {
                providers::ibm_verify(tenant, client.id, client.secret)
            }
            Self::Greennode(client) => providers::greennode(client.id, client.secret),
            Self::Ianum(client) => providers::ianum(client.id, client.secret),
            #[cfg(feature = "keyed")]
            Self::EntraOnBehalfOf { tenant, client } => {
                providers::entra_on_behalf_of(tenant, client.id, client.secret)
            }
            Self::Entra { tenant, client_id } => providers::entra(tenant, client_id),
            Self::EntraWorkloadIdentity(identity) => identity.builder(),
            Self::Auth0 { domain, client_id, audience } => {
                providers::auth0(domain, client_id, audience)
            }
            Self::Okta { domain, server: None, client_id } => providers::okta(domain, client_id),
            Self::Okta { domain, server: Some(server), client_id } => {
                providers::okta_authorization_server(domain, server, client_id)
            }
            Self::Keycloak { base_url, realm, client_id } => {
                providers::keycloak(base_url, realm, client_id)
            }
            #[cfg(feature = "jwt")]
            Self::GoogleServiceAccount(file) => providers::google_service_account(file),
        }
    }
}

fn needed<T: Clone>(key: &str, value: Option<&T>, provider: Provider) -> Result<T, String> {
    let missing =
        || format!("`{key}` is missing, which `provider = \"{}\"` needs", provider.name());
    value.cloned().ok_or_else(missing)
}

fn only_for(
    owners: &[Provider],
    key: &str,
    is_set: bool,
    provider: Option<Provider>,
) -> Result<(), String> {
    let is_owner = provider.is_some_and(|provider| owners.contains(&provider));
    if is_set && !is_owner {
        let owners: Vec<_> = owners.iter().map(|owner| format!("\"{}\"", owner.name())).collect();
        return Err(format!("`{key}` is for `provider = {}` only", owners.join("` or `")));
    }
    Ok(())
}
