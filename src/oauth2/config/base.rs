//! What a configuration begins with: a URL, or a service that is known by name.

use serde::Deserialize;

use super::Settings;
use crate::{
    Secret,
    oauth2::{TokenEndpoint, TokenEndpointBuilder, systems},
};

/// The name of one of the [`systems`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum System {
    IbmCloud,
    IbmVerify,
    Greennode,
    Ianum,
}

/// What it takes to begin.
#[derive(Clone)]
pub(super) enum Base {
    Url(String),
    IbmCloud { api_key: Secret },
    IbmVerify { tenant: String, client: Client },
    Greennode(Client),
    Ianum(Client),
}

#[derive(Clone)]
pub(super) struct Client {
    id: String,
    secret: Secret,
}

// ===== impl Base =====

impl Base {
    /// Takes what is needed, and refuses what is only needed elsewhere.
    pub(super) fn of(settings: &Settings) -> Result<Self, String> {
        let Settings { system, tenant, api_key, url, client_id, client_secret, .. } = settings;
        only_for(System::IbmCloud, "api_key", api_key.is_some(), *system)?;
        only_for(System::IbmVerify, "tenant", tenant.is_some(), *system)?;
        let Some(system) = *system else {
            return url
                .clone()
                .map(Self::Url)
                .ok_or_else(|| "`url` is missing: write it, or a `system`".to_owned());
        };
        let client = || {
            let id = needed("client_id", client_id.as_ref(), system)?;
            needed("client_secret", client_secret.as_ref(), system)
                .map(|secret| Client { id, secret })
        };
        match system {
            System::IbmCloud => needed("api_key", api_key.as_ref(), system)
                .map(|api_key| Self::IbmCloud { api_key }),
            System::IbmVerify => {
                let tenant = needed("tenant", tenant.as_ref(), system)?;
                client().map(|client| Self::IbmVerify { tenant, client })
            }
            System::Greennode => client().map(Self::Greennode),
            System::Ianum => client().map(Self::Ianum),
        }
    }

    pub(super) fn builder(&self) -> TokenEndpointBuilder {
        match self.clone() {
            Self::Url(url) => TokenEndpoint::builder(url),
            Self::IbmCloud { api_key } => systems::ibm_cloud(api_key),
            Self::IbmVerify { tenant, client } => {
                systems::ibm_verify(tenant, client.id, client.secret)
            }
            Self::Greennode(client) => systems::greennode(client.id, client.secret),
            Self::Ianum(client) => systems::ianum(client.id, client.secret),
        }
    }
}

// ===== impl System =====

impl System {
    fn name(self) -> &'static str {
        match self {
            Self::IbmCloud => "ibm_cloud",
            Self::IbmVerify => "ibm_verify",
            Self::Greennode => "greennode",
            Self::Ianum => "ianum",
        }
    }
}

fn needed<T: Clone>(key: &str, value: Option<&T>, system: System) -> Result<T, String> {
    let missing = || format!("`{key}` is missing, which `system = \"{}\"` needs", system.name());
    value.cloned().ok_or_else(missing)
}

fn only_for(owner: System, key: &str, is_set: bool, system: Option<System>) -> Result<(), String> {
    if is_set && system != Some(owner) {
        return Err(format!("`{key}` is for `system = \"{}\"` only", owner.name()));
    }
    Ok(())
}
