//! Presets for known token services.
//!
//! Each function returns a builder that is set up for its service. You can still add or change
//! every setting: a scope, a transport, another [URL](TokenEndpointBuilder::url).
//!
//! ```
//! use tower_bearer::{Secret, oauth2::providers};
//!
//! # #[cfg(feature = "reqwest")] {
//! let endpoint = providers::ibm_cloud(Secret::json_file("key.json", "apikey")).build()?;
//! # }
//! # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
//! ```

mod entra;
#[cfg(feature = "jwt")]
mod google;
mod host;
mod okta;

use std::{fmt::Display, time::Duration};

use self::host::host;
use super::{
    assertion::Profile, builder::TokenEndpointBuilder, client_auth::ClientAuth,
    endpoint::TokenEndpoint, request::BodyFormat,
};
use crate::secret::Secret;

#[cfg(feature = "serde")]
pub(super) use self::entra::WorkloadIdentity;
#[cfg(feature = "keyed")]
#[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
pub use self::entra::entra_on_behalf_of;
#[cfg(feature = "jwt")]
#[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
pub use self::google::google_service_account;
pub use self::{
    entra::{entra, entra_workload_identity},
    okta::{okta, okta_authorization_server},
};

/// The timeout of Ianum's own sample for connecting, and again for the answer.
const IANUM_WAIT: Duration = Duration::from_secs(60);

/// IBM Cloud IAM: exchanges an API key for a token that lives an hour, for Key Protect and every
/// other API of IBM Cloud.
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

/// IBM Security Verify: client credentials at a tenant. Give the tenant as its host name
/// (`tenant.verify.ibm.com`; a leading `https://` and a trailing `/` are ignored).
///
/// ```text
/// POST https://{tenant host}/v1.0/endpoint/default/token
/// Content-Type: application/x-www-form-urlencoded
///
/// grant_type=client_credentials&client_id={client_id}&client_secret={client_secret}
/// ```
///
/// The path `/oidc/endpoint/default/token` works too.
pub fn ibm_verify(
    tenant_host: impl Display,
    client_id: impl Into<String>,
    client_secret: impl Into<Secret>,
) -> TokenEndpointBuilder {
    let host = host(tenant_host);
    TokenEndpoint::builder(format!("https://{host}/v1.0/endpoint/default/token"))
        .client_id(client_id)
        .client_secret(client_secret)
        .client_auth(ClientAuth::Body)
}

/// `GreenNode` AI Platform IAM: client credentials for a token that lives ten hours, for a secured
/// inference endpoint.
///
/// ```text
/// POST https://iam.api.greennode.ai/accounts/v2/auth/token
/// Authorization: Basic base64(clientID:clientSecret)
/// Content-Type: application/x-www-form-urlencoded
///
/// grant_type=client_credentials
/// ```
///
/// Id and secret are encoded in base64 without escaping. For an older version of the service, which
/// answers with `accessToken` and `expiresIn`, see [`field`](TokenEndpointBuilder::field).
pub fn greennode(
    client_id: impl Into<String>,
    client_secret: impl Into<Secret>,
) -> TokenEndpointBuilder {
    TokenEndpoint::builder("https://iam.api.greennode.ai/accounts/v2/auth/token")
        .client_id(client_id)
        .client_secret(client_secret)
        .client_auth(ClientAuth::BasicRaw)
}

/// Ianum Auth: client credentials in a JSON body. The client id may be an alias.
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
        .timeout(IANUM_WAIT.saturating_mul(2))
}

/// Auth0: client credentials for the API with that identifier. Give the tenant as its domain
/// (`tenant.eu.auth0.com`, or a custom domain).
///
/// ```text
/// POST https://{domain}/oauth/token
/// Content-Type: application/json
///
/// {"audience":"{API identifier}","client_id":"…","client_secret":"…",
///  "grant_type":"client_credentials"}
/// ```
///
/// Add a [`client_secret`](TokenEndpointBuilder::client_secret), or a
/// [`client_assertion`](TokenEndpointBuilder::client_assertion) (Private Key JWT). Its audience is
/// the issuer `https://{domain}/`, with the `/`. Use the domain that your API expects in `iss`.
/// Auth0 bills each token of this grant: let programs of a kind share a cache.
pub fn auth0(
    domain: impl Display,
    client_id: impl Into<String>,
    api_identifier: impl Into<String>,
) -> TokenEndpointBuilder {
    let host = host(domain);
    TokenEndpoint::builder(format!("https://{host}/oauth/token"))
        .client_id(client_id)
        .client_auth(ClientAuth::Body)
        .body_format(BodyFormat::Json)
        .audience(api_identifier)
        .assertion_profile(Profile::issuer(format!("https://{host}/")))
}

/// Keycloak: client credentials of a client with a service account in a realm.
///
/// ```text
/// POST {base}/realms/{realm}/protocol/openid-connect/token
/// Authorization: Basic base64(client_id:client_secret)
/// Content-Type: application/x-www-form-urlencoded
///
/// grant_type=client_credentials
/// ```
///
/// The base is the server's own URL, such as `https://sso.example.com`, with `/auth` at its end if
/// the server is old or configured so. Add a
/// [`client_secret`](TokenEndpointBuilder::client_secret), or a
/// [`client_assertion`](TokenEndpointBuilder::client_assertion) (Signed JWT). Its audience is the
/// issuer `{base}/realms/{realm}`. If the server's own URL (`hostname`) differs from the one that
/// you use, set that issuer on the assertion.
pub fn keycloak(
    base: impl Display,
    realm: impl Display,
    client_id: impl Into<String>,
) -> TokenEndpointBuilder {
    let base = base.to_string();
    let issuer = format!("{}/realms/{realm}", base.trim_end_matches('/'));
    TokenEndpoint::builder(format!("{issuer}/protocol/openid-connect/token"))
        .client_id(client_id)
        .assertion_profile(Profile::issuer(issuer))
}
