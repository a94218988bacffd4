//! Token services that are known by name.
//!
//! Each function returns a builder that is set up for its service. Everything can still be
//! added to it or changed: a scope, a transport, another [URL](TokenEndpointBuilder::url).
//!
//! ```
//! use tower_bearer::{Secret, oauth2::providers};
//!
//! # #[cfg(feature = "reqwest")] {
//! let endpoint = providers::ibm_cloud(Secret::json_file("key.json", "apikey")).build()?;
//! # }
//! # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
//! ```

use std::{fmt::Display, time::Duration};

use super::{
    builder::TokenEndpointBuilder, client_auth::ClientAuth, endpoint::TokenEndpoint,
    request::BodyFormat,
};
use crate::secret::Secret;

/// How long Ianum's own sample waits for a connection, and again for the answer.
const IANUM_WAIT: Duration = Duration::from_secs(60);

/// IBM Cloud IAM: an API key for a token of an hour, which opens Key Protect and every other
/// API of IBM Cloud.
///
/// ```text
/// POST https://iam.cloud.ibm.com/identity/token
/// Content-Type: application/x-www-form-urlencoded
/// Accept: application/json
///
/// grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey=<API_KEY>
/// ```
///
/// `Secret::json_file("key.json", "apikey")` reads the key file that
/// `ibmcloud iam service-api-key-create … --file key.json` writes.
pub fn ibm_cloud(api_key: impl Into<Secret>) -> TokenEndpointBuilder {
    TokenEndpoint::builder("https://iam.cloud.ibm.com/identity/token")
        .grant_type("urn:ibm:params:oauth:grant-type:apikey")
        .secret_param("apikey", api_key)
}

/// Microsoft Entra, on behalf of the user: the token of the request's
/// [`Subject`](crate::Subject), which was issued for this client, for one that opens another API.
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
/// The tenant is an id or a domain name. Entra needs a scope, which is the endpoint's or the
/// key's: `https://graph.microsoft.com/.default`. Other clouds than the public one have other
/// [URLs](TokenEndpointBuilder::url). Where a policy wants more of the user (a second factor), the
/// error [needs interaction](super::EndpointError::needs_interaction) and may have
/// [claims](super::EndpointError::claims).
#[cfg(feature = "keyed")]
#[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
pub fn entra_on_behalf_of(
    tenant: impl Display,
    client_id: impl Into<String>,
    client_secret: impl Into<Secret>,
) -> TokenEndpointBuilder {
    TokenEndpoint::builder(format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"))
        .client_id(client_id)
        .client_secret(client_secret)
        .client_auth(ClientAuth::Body)
        .jwt_bearer_on_behalf_of()
        .param("requested_token_use", "on_behalf_of")
}

/// IBM Security Verify: client credentials at a tenant, which is given as its host name
/// (`tenant.verify.ibm.com`; a `https://` before it and a `/` behind it are ignored).
///
/// ```text
/// POST https://{tenant host}/v1.0/endpoint/default/token
/// Content-Type: application/x-www-form-urlencoded
///
/// grant_type=client_credentials&client_id={client_id}&client_secret={client_secret}
/// ```
///
/// `/oidc/endpoint/default/token` answers the same.
pub fn ibm_verify(
    tenant_host: impl Display,
    client_id: impl Into<String>,
    client_secret: impl Into<Secret>,
) -> TokenEndpointBuilder {
    let tenant = tenant_host.to_string();
    let host = tenant.strip_prefix("https://").unwrap_or(&tenant).trim_end_matches('/');
    TokenEndpoint::builder(format!("https://{host}/v1.0/endpoint/default/token"))
        .client_id(client_id)
        .client_secret(client_secret)
        .client_auth(ClientAuth::Body)
}

/// `GreenNode` AI Platform IAM: client credentials for a token of ten hours, which opens a
/// secured inference endpoint.
///
/// ```text
/// POST https://iam.api.greennode.ai/accounts/v2/auth/token
/// Authorization: Basic base64(clientID:clientSecret)
/// Content-Type: application/x-www-form-urlencoded
///
/// grant_type=client_credentials
/// ```
///
/// The id and the secret are not escaped before they are encoded. An older version of the
/// service answers with `accessToken` and `expiresIn`: see
/// [`field`](TokenEndpointBuilder::field).
pub fn greennode(
    client_id: impl Into<String>,
    client_secret: impl Into<Secret>,
) -> TokenEndpointBuilder {
    TokenEndpoint::builder("https://iam.api.greennode.ai/accounts/v2/auth/token")
        .client_id(client_id)
        .client_secret(client_secret)
        .client_auth(ClientAuth::BasicRaw)
}

/// Ianum Auth: client credentials in a JSON body; an alias is taken as the client id too.
///
/// ```text
/// POST https://api-auth.ianum.com/v1_3/oauth/token
/// Accept: application/json
/// Content-Type: application/json
///
/// {"client_id":"gate_xxxxxxxxxxxxx","client_secret":"…","grant_type":"client_credentials"}
/// ```
///
/// Connecting may take 60 s, and the whole exchange 120 s.
pub fn ianum(
    client_id: impl Into<String>,
    client_secret: impl Into<Secret>,
) -> TokenEndpointBuilder {
    TokenEndpoint::builder("https://api-auth.ianum.com/v1_3/oauth/token")
        .client_id(client_id)
        .client_secret(client_secret)
        .client_auth(ClientAuth::Body)
        .body_format(BodyFormat::Json)
        .connect_timeout(IANUM_WAIT)
        .timeout(2 * IANUM_WAIT)
}
