//! What a configuration begins with: a URL, or a service that is known by name.

use super::{
    super::{builder::TokenEndpointBuilder, endpoint::TokenEndpoint, providers},
    provider::Provider,
    settings::Settings,
};
use crate::secret::Secret;

/// What it takes to begin.
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
}

#[derive(Clone)]
pub(super) struct Client {
    id: String,
    secret: Secret,
}

/// Who has tenants.
const WITH_TENANT: &[Provider] = &[
    Provider::IbmVerify,
    #[cfg(feature = "keyed")]
    Provider::EntraOnBehalfOf,
];

// ===== impl Base =====

impl Base {
    /// Takes what is needed, and refuses what only another provider needs.
    pub(super) fn of(settings: &Settings) -> Result<Self, String> {
        let Settings { provider, tenant, api_key, url, issuer, client_id, client_secret, .. } =
            settings;
        only_for(&[Provider::IbmCloud], "api_key", api_key.is_some(), *provider)?;
        only_for(WITH_TENANT, "tenant", tenant.is_some(), *provider)?;
        let Some(provider) = *provider else {
            return match (url.clone(), issuer.clone()) {
                (Some(url), None) => Ok(Self::Url(url)),
                (None, Some(issuer)) => Ok(Self::Issuer(issuer)),
                (Some(_), Some(_)) => {
                    Err("`issuer` is in place of `url`: leave one out".to_owned())
                }
                (None, None) => {
                    Err("`url` is missing: write it, or an `issuer` or a `provider`".to_owned())
                }
            };
        };
        if issuer.is_some() {
            return Err("`issuer` is in place of `provider`: leave one out".to_owned());
        }
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
