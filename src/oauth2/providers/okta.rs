//! Okta: the organization and each of its authorization servers have an endpoint.

use std::fmt::Display;

use super::{
    super::{
        assertion::Profile, builder::TokenEndpointBuilder, client_auth::ClientAuth,
        endpoint::TokenEndpoint,
    },
    host::host,
};

/// Okta's organization authorization server: client credentials for Okta's API. Give the
/// organization as its domain (`example.okta.com`).
///
/// ```text
/// POST https://{domain}/oauth2/v1/token
/// Content-Type: application/x-www-form-urlencoded
///
/// grant_type=client_credentials&client_id={client_id}
/// &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer
/// &client_assertion={JWT}&scope=okta.users.read
/// ```
///
/// This server accepts no secrets: add a
/// [`client_assertion`](TokenEndpointBuilder::client_assertion) with the private key of the app,
/// and its [`key_id`](super::super::ClientAssertion::key_id) if the app has more than one. The
/// audience is the URL of the token endpoint, as Okta documents it. Add a scope, such as
/// `okta.users.read`, that is granted to the app and permitted by one of its roles.
///
/// Okta requires `DPoP` of new apps, and refuses with `invalid_dpop_proof`: turn it off in the
/// app's settings.
pub fn okta(domain: impl Display, client_id: impl Into<String>) -> TokenEndpointBuilder {
    at(&host(domain), "v1/token", client_id).client_auth(ClientAuth::Body)
}

/// An Okta custom authorization server: client credentials for your APIs. Give the server by its
/// id, which is `default` for the first one.
///
/// ```text
/// POST https://{domain}/oauth2/{server}/v1/token
/// Authorization: Basic base64(client_id:client_secret)
/// Content-Type: application/x-www-form-urlencoded
///
/// grant_type=client_credentials&scope={scope}
/// ```
///
/// Add a [`client_secret`](TokenEndpointBuilder::client_secret), or a
/// [`client_assertion`](TokenEndpointBuilder::client_assertion) as for [`okta`]. Add a scope of
/// that server, unless it has a default scope.
pub fn okta_authorization_server(
    domain: impl Display,
    server: impl Display,
    client_id: impl Into<String>,
) -> TokenEndpointBuilder {
    at(&host(domain), format_args!("{server}/v1/token"), client_id)
}

fn at(host: &str, path: impl Display, client_id: impl Into<String>) -> TokenEndpointBuilder {
    TokenEndpoint::builder(format!("https://{host}/oauth2/{path}"))
        .client_id(client_id)
        .assertion_profile(Profile::token_endpoint())
}
