//! Credentials that may change while the program runs.

mod error;
mod file;
#[cfg(test)]
mod tests;

use std::{ffi::OsString, fmt, path::PathBuf, pin::Pin, sync::Arc};

use zeroize::Zeroizing;

use self::error::MAX_LEN;
use crate::{error::BoxError, token::Redacted};

pub use self::error::{SecretError, SecretErrorKind};

/// A client secret, an API key, a refresh token: any credential that a token request carries.
///
/// Each fetch reads the secret again, so a credential that is rotated in its variable, its file or
/// its vault needs no restart. An empty secret is an error, wherever it comes from, and so is one
/// of more than 64 KiB.
///
/// Clones are cheap and share one copy of a fixed secret, which is wiped when the last of them is
/// dropped. `Debug` names the variable or the file and never shows a value.
///
/// ```
/// use tower_bearer::{BoxError, Secret};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let fixed = Secret::new("s3cr3t");
/// let mounted = Secret::file("/run/secrets/client-secret");
/// let vault = Secret::from_fn(async || Ok::<_, BoxError>("from-the-vault".to_owned()));
///
/// assert_eq!(*vault.read().await?, "from-the-vault");
/// assert!(!format!("{fixed:?}").contains("s3cr3t"));
///
/// let error = mounted.read().await.unwrap_err();
/// assert!(error.to_string().contains("/run/secrets/client-secret"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Secret {
    kept: Arc<Kept>,
}

/// Where a secret is kept.
enum Kept {
    Fixed(Zeroizing<String>),
    Env(String),
    File(PathBuf),
    #[cfg(any(feature = "oauth2", feature = "command"))]
    JsonFile {
        path: PathBuf,
        member: String,
    },
    Function(Box<Function>),
}

type Function =
    dyn Fn() -> Pin<Box<dyn Future<Output = Result<String, BoxError>> + Send>> + Send + Sync;

// ===== impl Secret =====

impl Secret {
    /// A secret that never changes, used as it is. The crate wipes a `String` that you pass.
    pub fn new(secret: impl Into<String>) -> Self {
        Kept::Fixed(Zeroizing::new(secret.into())).into()
    }

    /// The value of an environment variable, used as it is.
    ///
    /// The value that [`read`](Self::read) returns is wiped; the environment itself is not.
    pub fn env(name: impl Into<String>) -> Self {
        Kept::Env(name.into()).into()
    }

    /// The text of a file, without the white space around it.
    ///
    /// It must be a regular file (symbolic links are followed) that holds UTF-8. If the file is
    /// replaced by renaming, as Kubernetes does, a read returns the old text or the new text,
    /// whole. If the file is rewritten in place during a read, it is read again.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Kept::File(path.into()).into()
    }

    /// One member of the JSON object in a file: a string, without the white space around it.
    ///
    /// The file is read as by [`file`](Self::file). For the key file of `ibmcloud iam
    /// service-api-key-create … --file key.json` this is `Secret::json_file("key.json", "apikey")`.
    #[cfg(any(feature = "oauth2", feature = "command"))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "oauth2", feature = "command"))))]
    pub fn json_file(path: impl Into<PathBuf>, member: impl Into<String>) -> Self {
        Kept::JsonFile { path: path.into(), member: member.into() }.into()
    }

    /// What an async function returns, used as it is.
    ///
    /// It may return the same secret until that is rotated, or make a new one for each call, such
    /// as a signed assertion. After the token service has refused the secret, the crate can see a
    /// change only in the first case.
    ///
    /// `F` is kept and called from any thread, hence its bounds. The text of its error is shown: it
    /// must not contain the secret.
    pub fn from_fn<F, Fut>(read: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, BoxError>> + Send + 'static,
    {
        Kept::Function(Box::new(move || Box::pin(read()))).into()
    }

    /// Reads the current secret. The value is wiped when it is dropped.
    ///
    /// A file is read on tokio's blocking pool or, without a tokio runtime, on this thread.
    ///
    /// # Errors
    ///
    /// [`SecretError`] if there is no secret, or none that is usable. It says where and what to
    /// change, and shows no value.
    pub async fn read(&self) -> Result<Zeroizing<String>, SecretError> {
        self.kept
            .value()
            .await
            .and_then(checked)
            .map_err(|kind| SecretError::new(self.place(), kind))
    }

    /// An error about what was read, for a caller that asks more of it than of every secret.
    #[cfg(feature = "oauth2")]
    pub(crate) fn error(&self, kind: SecretErrorKind) -> SecretError {
        SecretError::new(self.place(), kind)
    }

    /// The secret, if it never changes.
    #[cfg(feature = "oauth2")]
    pub(crate) fn fixed(&self) -> Option<&str> {
        match &*self.kept {
            Kept::Fixed(secret) => Some(secret),
            _ => None,
        }
    }

    /// Whether a function makes it, perhaps a new one each time.
    #[cfg(feature = "oauth2")]
    pub(crate) fn is_made(&self) -> bool {
        matches!(*self.kept, Kept::Function(_))
    }

    /// Names where the secret is kept.
    pub(crate) fn place(&self) -> String {
        self.kept.to_string()
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Self {
        Self::new(secret)
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self::new(secret)
    }
}

impl From<Kept> for Secret {
    fn from(kept: Kept) -> Self {
        Self { kept: Arc::new(kept) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple("Secret");
        match &*self.kept {
            Kept::Fixed(_) => tuple.field(&Redacted),
            place => tuple.field(&format_args!("{place}")),
        };
        tuple.finish()
    }
}

// ===== impl Kept =====

impl Kept {
    async fn value(&self) -> Result<Zeroizing<String>, SecretErrorKind> {
        match self {
            Self::Fixed(secret) => Ok(secret.clone()),
            Self::Env(name) => variable(std::env::var_os(name)),
            Self::File(path) => Ok(owned(text(&file::read(path.clone()).await?)?)),
            #[cfg(any(feature = "oauth2", feature = "command"))]
            Self::JsonFile { path, member } => json(&file::read(path.clone()).await?, member),
            Self::Function(read) => match read().await {
                Ok(secret) => Ok(Zeroizing::new(secret)),
                Err(error) => Err(SecretErrorKind::Function(error.into())),
            },
        }
    }
}

/// Quoted and escaped: a name may contain anything that the operating system accepts.
impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("the fixed secret"),
            Self::Env(name) => write!(f, "the environment variable {name:?}"),
            Self::File(path) => write!(f, "the file {:?}", path.to_string_lossy()),
            #[cfg(any(feature = "oauth2", feature = "command"))]
            Self::JsonFile { path, member } => {
                let path = path.to_string_lossy();
                write!(f, "the JSON file {path:?} (member {member:?})")
            }
            Self::Function(_) => f.write_str("the function that reads the secret"),
        }
    }
}

// ===== What a secret must be =====

fn checked(secret: Zeroizing<String>) -> Result<Zeroizing<String>, SecretErrorKind> {
    match secret.len() {
        0 => Err(SecretErrorKind::Empty),
        1..=MAX_LEN => Ok(secret),
        _ => Err(SecretErrorKind::TooLong),
    }
}

fn variable(value: Option<OsString>) -> Result<Zeroizing<String>, SecretErrorKind> {
    let value = Zeroizing::new(value.ok_or(SecretErrorKind::NotSet)?.into_encoded_bytes());
    std::str::from_utf8(&value).map(owned).map_err(|_| SecretErrorKind::NotText)
}

/// Editors add a line end, some a byte order mark too. Neither is part of a secret.
fn text(bytes: &[u8]) -> Result<&str, SecretErrorKind> {
    let text = std::str::from_utf8(bytes).map_err(|_| SecretErrorKind::NotText)?;
    Ok(text.trim_start_matches('\u{feff}').trim())
}

#[cfg(any(feature = "oauth2", feature = "command"))]
fn json(bytes: &[u8], member: &str) -> Result<Zeroizing<String>, SecretErrorKind> {
    use serde_json::{Map, Value};

    let mut object: Map<String, Value> =
        serde_json::from_str(text(bytes)?).map_err(|_| SecretErrorKind::NotJson)?;
    match object.remove(member) {
        Some(Value::String(value)) => Ok(owned(Zeroizing::new(value).trim())),
        _ => Err(SecretErrorKind::NoMember),
    }
}

fn owned(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}
