//! The destination of a token request.

use http::Uri;

use super::{client_auth::ClientAuth, redact::Redactor};
use crate::origin::Origin;

/// The URL of a token endpoint, and how the client authenticates there.
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

/// The part of a URI that errors may show: without the query, which may contain a secret.
pub(super) fn place(uri: &Uri, origin: &Origin) -> String {
    format!("{origin}{}", Redactor::default().clean(uri.path()))
}
