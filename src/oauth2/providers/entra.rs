//! Microsoft Entra, with three ways to get a token.

use std::{env, ffi::OsString, fmt::Display};

use super::super::{
    assertion::{ClientAssertion, Profile},
    builder::{InvalidEndpoint, TokenEndpointBuilder},
    client_auth::ClientAuth,
    endpoint::TokenEndpoint,
};
use crate::secret::Secret;

/// The public cloud.
const AUTHORITY: &str = "https://login.microsoftonline.com/";

/// Microsoft Entra: client credentials in a tenant, given as an id or a domain name.
///
/// ```text
/// POST https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token
/// Content-Type: application/x-www-form-urlencoded
///
/// grant_type=client_credentials&client_id={client_id}&client_secret={client_secret}
/// &scope=https%3A%2F%2Fgraph.microsoft.com%2F.default
/// ```
///
/// Entra needs a scope of one API that ends in `/.default`, such as
/// `https://graph.microsoft.com/.default`. For other clouds than the public one, set the
/// [URL](TokenEndpointBuilder::url).
///
/// Add a [`client_secret`](TokenEndpointBuilder::client_secret), or a
/// [`client_assertion`](TokenEndpointBuilder::client_assertion). For an assertion with a private
/// key, add the certificate that you have uploaded to Entra (`ClientAssertion::certificate`). The
/// assertion follows Entra's documentation: `PS256`, the URL of the token endpoint as audience, the
/// type `JWT`, and `nbf`.
///
/// ```
/// use tower_bearer::{Secret, oauth2::{ClientAssertion, providers}};
///
/// # #[cfg(feature = "jwt")] {
/// let pem = Secret::file("/run/secrets/entra.pem"); // the key and the certificate
/// let endpoint = providers::entra("contoso.onmicrosoft.com", "00001111-aaaa-2222-bbbb-3333cccc4444")
///     .client_assertion(ClientAssertion::private_key(pem.clone()).certificate(pem))
///     .scope("https://graph.microsoft.com/.default");
/// # #[cfg(feature = "reqwest")]
/// # endpoint.build()?;
/// # }
/// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
/// ```
pub fn entra(tenant: impl Display, client_id: impl Into<String>) -> TokenEndpointBuilder {
    at(AUTHORITY, tenant, client_id)
}

fn at(authority: &str, tenant: impl Display, client_id: impl Into<String>) -> TokenEndpointBuilder {
    let authority = authority.trim_end_matches('/');
    TokenEndpoint::builder(format!("{authority}/{tenant}/oauth2/v2.0/token"))
        .client_id(client_id)
        .client_auth(ClientAuth::Body)
        .assertion_profile(profile())
}

/// Assertions as Entra documents them.
fn profile() -> Profile {
    Profile {
        header_type: "JWT",
        #[cfg(feature = "jwt")]
        usual_of_rsa: super::super::assertion::SigningAlgorithm::Ps256,
        has_not_before: true,
        ..Profile::token_endpoint()
    }
}

/// Microsoft Entra Workload ID: client credentials of a pod whose service account Entra trusts.
///
/// ```text
/// POST {AZURE_AUTHORITY_HOST}/{AZURE_TENANT_ID}/oauth2/v2.0/token
/// Content-Type: application/x-www-form-urlencoded
///
/// grant_type=client_credentials&client_id={AZURE_CLIENT_ID}
/// &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer
/// &client_assertion={contents of AZURE_FEDERATED_TOKEN_FILE}&scope={scope}
/// ```
///
/// The workload identity webhook sets the variables if the pod has the label
/// `azure.workload.identity/use: "true"`. This function reads `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`,
/// `AZURE_FEDERATED_TOKEN_FILE`, and the optional `AZURE_AUTHORITY_HOST` (default: the public
/// cloud). Each fetch reads the file again, because the kubelet replaces it.
///
/// Entra needs a scope: see [`entra`].
///
/// # Errors
///
/// [`InvalidEndpoint`] names the variable that is not set, is empty or is not UTF-8.
///
/// ```no_run
/// use tower_bearer::oauth2::providers;
///
/// let endpoint =
///     providers::entra_workload_identity()?.scope("https://vault.azure.net/.default");
/// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
/// ```
pub fn entra_workload_identity() -> Result<TokenEndpointBuilder, InvalidEndpoint> {
    WorkloadIdentity::from_env().map(WorkloadIdentity::builder)
}

/// The variables of a pod's environment.
#[derive(Clone)]
pub(crate) struct WorkloadIdentity {
    authority: String,
    tenant: String,
    client_id: String,
    file: String,
}

// ===== impl WorkloadIdentity =====

impl WorkloadIdentity {
    pub(crate) fn from_env() -> Result<Self, InvalidEndpoint> {
        Ok(Self {
            tenant: needed("AZURE_TENANT_ID")?,
            client_id: needed("AZURE_CLIENT_ID")?,
            file: needed("AZURE_FEDERATED_TOKEN_FILE")?,
            authority: variable("AZURE_AUTHORITY_HOST")?.unwrap_or_else(|| AUTHORITY.to_owned()),
        })
    }

    pub(crate) fn builder(self) -> TokenEndpointBuilder {
        let token = ClientAssertion::token(Secret::file(self.file));
        at(&self.authority, self.tenant, self.client_id).client_assertion(token)
    }
}

fn needed(name: &'static str) -> Result<String, InvalidEndpoint> {
    let problem = "is not set: label the pod for workload identity, and restart it";
    variable(name)?.ok_or(InvalidEndpoint::Variable { name, problem })
}

/// An empty variable counts as not set.
fn variable(name: &'static str) -> Result<Option<String>, InvalidEndpoint> {
    let value = env::var_os(name).map(OsString::into_string).transpose();
    let value =
        value.map_err(|_| InvalidEndpoint::Variable { name, problem: "is not UTF-8 text" })?;
    Ok(value.filter(|value| !value.is_empty()))
}

/// Microsoft Entra on-behalf-of: exchanges the token of the request's [`Subject`](crate::Subject),
/// which was issued for this client, for a token for another API.
///
/// ```text
/// POST https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token
/// Content-Type: application/x-www-form-urlencoded
///
/// grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&client_id={client_id}
/// &client_secret={client_secret}&assertion={subject token}&scope={scope}
/// &requested_token_use=on_behalf_of
/// ```
///
/// The tenant is an id or a domain name. Entra needs a scope, from the endpoint or the key, such as
/// `https://graph.microsoft.com/.default`. For other clouds than the public one, set the
/// [URL](TokenEndpointBuilder::url). If a policy requires more of the user (a second factor), the
/// error [needs interaction](super::super::EndpointError::needs_interaction) and may have
/// [claims](super::super::EndpointError::claims).
#[cfg(feature = "keyed")]
pub fn entra_on_behalf_of(
    tenant: impl Display,
    client_id: impl Into<String>,
    client_secret: impl Into<Secret>,
) -> TokenEndpointBuilder {
    entra(tenant, client_id)
        .client_secret(client_secret)
        .jwt_bearer_on_behalf_of()
        .param("requested_token_use", "on_behalf_of")
}
