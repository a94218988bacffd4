//! Values of parameters and headers, which may be secret.

use std::fmt;

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::{
    secret::{Secret, SecretError, SecretErrorKind},
    token::Redacted,
};

/// A text that errors may show, or a secret.
#[derive(Clone)]
pub(super) enum Text {
    Plain(String),
    Secret(Secret),
}

/// The value of a [header](super::TokenEndpointBuilder::header): a text, which errors may show, or
/// a [`Secret`], which each fetch reads again and no error shows.
///
/// ```
/// use tower_bearer::{Secret, oauth2::{HeaderText, TokenEndpoint}};
///
/// let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
///     .header("x-tenant", "blue")
///     .header("x-gateway-key", Secret::env("GATEWAY_KEY"));
/// let either: HeaderText = Secret::env("GATEWAY_KEY").into();
/// # let _ = (endpoint, either);
/// ```
#[derive(Clone)]
pub struct HeaderText {
    pub(super) text: Text,
}

// ===== impl Text =====

impl Text {
    pub(super) fn plain(&self) -> Option<&str> {
        match self {
            Self::Plain(text) => Some(text),
            Self::Secret(_) => None,
        }
    }

    /// The value, if it is fixed.
    pub(super) fn fixed(&self) -> Option<&str> {
        match self {
            Self::Plain(text) => Some(text),
            Self::Secret(secret) => secret.fixed(),
        }
    }

    pub(super) fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Plain(_) => None,
            Self::Secret(secret) => Some(secret),
        }
    }
}

/// A header value over memory that is wiped; `None` if no header can carry the text.
pub(super) fn secret_header(secret: &str) -> Option<HeaderValue> {
    let bytes = Bytes::from_owner(Zeroizing::new(secret.as_bytes().to_vec()));
    let mut header = HeaderValue::from_maybe_shared(bytes).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// Whether a secret can be sent in a header.
pub(super) fn check_header(secret: &Secret, read: &str) -> Result<(), SecretError> {
    match secret_header(read) {
        Some(_) => Ok(()),
        None => Err(secret.error(SecretErrorKind::NotForHeader)),
    }
}

// ===== impl HeaderText =====

impl From<&str> for HeaderText {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<&String> for HeaderText {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}

impl From<String> for HeaderText {
    fn from(text: String) -> Self {
        Self { text: Text::Plain(text) }
    }
}

impl From<Secret> for HeaderText {
    fn from(secret: Secret) -> Self {
        Self { text: Text::Secret(secret) }
    }
}

impl fmt::Debug for HeaderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple("HeaderText");
        match &self.text {
            // A user may have put a secret here.
            Text::Plain(_) => tuple.field(&Redacted),
            Text::Secret(secret) => tuple.field(secret),
        };
        tuple.finish()
    }
}
