//! Google service accounts.

use super::super::{builder::TokenEndpointBuilder, endpoint::TokenEndpoint};
use crate::secret::Secret;

/// A Google service account: a grant that is signed with the key in its file, for a token of an
/// hour.
///
/// ```text
/// POST https://oauth2.googleapis.com/token
/// Content-Type: application/x-www-form-urlencoded
///
/// grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={JWT}
/// ```
///
/// The secret is the text of the key file, as `Secret::file("key.json")` reads it; it is read
/// anew for each fetch. The scope is needed, and is signed as a part of the JWT: the endpoint's or the
/// key's, such as `https://www.googleapis.com/auth/cloud-platform`. The JWT is for the URL of the
/// endpoint, is signed by `RS256` and lives for an hour.
///
/// The `token_uri` of the file is not trusted, so that whoever can write the file cannot choose where
/// requests go: it has to be one of Google's, or the [URL](TokenEndpointBuilder::url) that you have
/// set. Else the fetch fails and nothing is sent.
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
