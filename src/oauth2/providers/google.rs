//! Google service accounts.

use super::super::{builder::TokenEndpointBuilder, endpoint::TokenEndpoint};
use crate::secret::Secret;

/// A Google service account: a grant signed with the key in its file, for a token that lives an
/// hour.
///
/// ```text
/// POST https://oauth2.googleapis.com/token
/// Content-Type: application/x-www-form-urlencoded
///
/// grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={JWT}
/// ```
///
/// The secret is the text of the key file, as `Secret::file("key.json")` reads it. Each fetch reads
/// it again. A scope is required, from the endpoint or the key, such as
/// `https://www.googleapis.com/auth/cloud-platform`; it is part of the JWT. The JWT's audience is
/// the URL of the endpoint. It is signed with `RS256` and lives for an hour.
///
/// The `token_uri` of the file must be one of Google's, or the [URL](TokenEndpointBuilder::url)
/// that you have set, so that write access to the file does not control where requests go.
/// Otherwise the fetch fails and nothing is sent.
///
/// A file of another type (`authorized_user`, `external_account`) is an error.
///
/// ```
/// use tower_bearer::{Secret, oauth2::providers};
///
/// # #[cfg(feature = "reqwest")] {
/// let endpoint = providers::google_service_account(Secret::file("/run/secrets/google.json"))
///     .scope("https://www.googleapis.com/auth/cloud-platform")
///     .build()?;
/// # }
/// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
/// ```
pub fn google_service_account(key_file: impl Into<Secret>) -> TokenEndpointBuilder {
    TokenEndpoint::builder("https://oauth2.googleapis.com/token").service_account(key_file.into())
}
