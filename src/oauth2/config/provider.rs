//! The known services.

use serde::Deserialize;

/// The name of one of the [`providers`](super::super::providers).
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Provider {
    IbmCloud,
    IbmVerify,
    Greennode,
    Ianum,
    #[cfg(feature = "keyed")]
    EntraOnBehalfOf,
    Entra,
    EntraWorkloadIdentity,
    Auth0,
    Okta,
    Keycloak,
    #[cfg(feature = "jwt")]
    GoogleServiceAccount,
}

// ===== impl Provider =====

impl Provider {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::IbmCloud => "ibm_cloud",
            Self::IbmVerify => "ibm_verify",
            Self::Greennode => "greennode",
            Self::Ianum => "ianum",
            #[cfg(feature = "keyed")]
            Self::EntraOnBehalfOf => "entra_on_behalf_of",
            Self::Entra => "entra",
            Self::EntraWorkloadIdentity => "entra_workload_identity",
            Self::Auth0 => "auth0",
            Self::Okta => "okta",
            Self::Keycloak => "keycloak",
            #[cfg(feature = "jwt")]
            Self::GoogleServiceAccount => "google_service_account",
        }
    }
}
