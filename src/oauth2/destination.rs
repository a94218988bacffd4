//! Where a token request goes.

use http::Uri;

use super::{client_auth::ClientAuth, redact::Redactor};
use crate::origin::Origin;

/// The URL of a token endpoint, and how the client says there who it is.
pub(super) struct Destination {
    pub(super) uri: Uri,
    pub(super) client_auth: ClientAuth,
    /// Scheme, host, port and path, as errors show them.
    pub(super) place: String,
}

// ===== impl Destination =====

impl Destination {
    /// The URI and its origin.
    pub(super) fn new(uri: Uri, origin: &Origin, client_auth: ClientAuth) -> Self {
        let place = place(&uri, origin);
        Self { uri, client_auth, place }
    }
}

/// What errors may show of a URI: never the query, in which there may be a secret.
pub(super) fn place(uri: &Uri, origin: &Origin) -> String {
    format!("{origin}{}", Redactor::default().clean(uri.path()))
}
