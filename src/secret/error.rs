//! Why a secret could not be read.

use std::{error::Error, io, sync::Arc};

/// The longest secret that is accepted, in bytes. Keys and workload tokens have a few thousand.
pub(super) const MAX_LEN: usize = 64 * 1024;

/// A secret that could not be read. The error names the place and what to change, never a value.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{place} {kind}")]
#[non_exhaustive]
pub struct SecretError {
    place: String,
    kind: SecretErrorKind,
}

/// What is wrong with a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretErrorKind {
    /// The environment variable is not set.
    #[error("is not set: export it to this program")]
    NotSet,
    /// There is no such file.
    #[error("does not exist: check the path, and whether it has been mounted")]
    NotFound,
    /// The path exists but is not a regular file: a directory, a pipe, a device.
    #[error("is not a regular file")]
    NotAFile,
    /// The file changed during each read.
    #[error("changes while it is read: replace it by renaming a new file over it")]
    Changing,
    /// The operating system could not read it.
    #[error("cannot be read: {0}")]
    Io(Arc<io::Error>),
    /// It is empty, or only white space.
    #[error("is empty")]
    Empty,
    /// It is longer than a secret may be: 64 KiB.
    #[error("holds more than {} KiB, which is too long for a secret", MAX_LEN / 1024)]
    TooLong,
    /// It is not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// The file does not hold a JSON object.
    #[error("does not hold a JSON object")]
    NotJson,
    /// The JSON object does not have that member, or the member is not a string.
    #[error("has no such member, or the member is not a string")]
    NoMember,
    /// It goes into a header, and has a character that no header may carry.
    #[error("has a character that no header may carry: a line end, perhaps")]
    NotForHeader,
    /// The function returned this error.
    #[error("failed: {0}")]
    Function(Arc<dyn Error + Send + Sync>),
}

// ===== impl SecretError =====

impl SecretError {
    pub(super) fn new(place: String, kind: SecretErrorKind) -> Self {
        Self { place, kind }
    }

    /// What is wrong with the secret.
    #[must_use]
    pub fn kind(&self) -> &SecretErrorKind {
        &self.kind
    }

    /// Whether the failure may pass by itself. Any other failure needs an operator.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match &self.kind {
            SecretErrorKind::Changing | SecretErrorKind::Function(_) => true,
            SecretErrorKind::Io(error) => error.kind() != io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }
}

// ===== impl SecretErrorKind =====

/// For `?` where a secret's file is read.
#[doc(hidden)]
impl From<io::Error> for SecretErrorKind {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            _ => Self::Io(Arc::new(error)),
        }
    }
}
