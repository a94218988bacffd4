//! A token that is stored somewhere, ready to be read.

use std::time::Duration;

use super::access_token;
use crate::{
    error::TokenError,
    secret::Secret,
    source::{TokenRequest, TokenSource},
    token::{AccessToken, InvalidToken},
};

/// A token that another program fetches. The source only reads it, and reads it again each time
/// that the current one is due, expired or rejected.
///
/// A leading `Bearer ` is optional. A JWT says itself when it expires; any other token lives until
/// it is rejected, unless [`with_lifetime`](Self::with_lifetime) sets a lifetime.
///
/// After a rejection the source returns what it reads. If that is the same token, the layer does
/// not send it again.
///
/// # Kubernetes
///
/// ```
/// # use tower_bearer::local::StoredToken;
/// let source = StoredToken::file("/var/run/secrets/tokens/api-token");
/// ```
///
/// reads a projected service account token: a JWT that the kubelet replaces when about 80 % of its
/// life is over. The cache reads the file when its token is due. If the kubelet has not replaced
/// the token by then, the cache reads the file again later, and no request waits.
#[derive(Clone, Debug)]
pub struct StoredToken {
    secret: Secret,
    lifetime: Option<Duration>,
}

/// A text that is not an access token. The error does not show the text.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{place} does not hold an access token: {reason}")]
#[non_exhaustive]
pub struct StoredTokenError {
    place: String,
    reason: InvalidToken,
}

// ===== impl StoredToken =====

impl StoredToken {
    /// The token is this text, or the text that the [`Secret`] reads.
    pub fn new(secret: impl Into<Secret>) -> Self {
        Self { secret: secret.into(), lifetime: None }
    }

    /// The token is the value of an environment variable.
    pub fn env(name: impl Into<String>) -> Self {
        Self::new(Secret::env(name))
    }

    /// The token is the text of a file, read as by [`Secret::file`].
    pub fn file(path: impl Into<std::path::PathBuf>) -> Self {
        Self::new(Secret::file(path))
    }

    /// Sets how long a token is used before it is read again.
    ///
    /// Any duration is valid; the cache clamps it. It takes precedence over the `exp` of a JWT, as
    /// [`AccessToken::with_lifetime`] does.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    async fn read(&self) -> Result<AccessToken, TokenError> {
        let text = self.secret.read().await.map_err(|error| {
            if error.is_transient() {
                TokenError::transient(error)
            } else {
                TokenError::permanent(error)
            }
        })?;
        let token = access_token(&text).map_err(|reason| {
            TokenError::permanent(StoredTokenError { place: self.secret.place(), reason })
        })?;
        Ok(match self.lifetime {
            Some(lifetime) => token.with_lifetime(lifetime),
            None => token,
        })
    }
}

impl TokenSource for StoredToken {
    /// # Errors
    ///
    /// A [`SecretError`](crate::SecretError) or a [`StoredTokenError`], as the cause.
    async fn fetch(&self, _: TokenRequest) -> Result<AccessToken, TokenError> {
        self.read().await
    }

    /// A permanent failure is over as soon as the source can read a token.
    async fn recovered(&self) -> bool {
        self.read().await.is_ok()
    }
}

// ===== impl StoredTokenError =====

impl StoredTokenError {
    /// What is wrong with the text.
    #[must_use]
    pub fn reason(&self) -> &InvalidToken {
        &self.reason
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{secret::SecretError, source::Reason};

    async fn fetch(source: &StoredToken) -> Result<AccessToken, TokenError> {
        source.fetch(TokenRequest::new(Reason::First)).await
    }

    #[tokio::test]
    async fn a_fixed_token_has_no_lifetime_unless_it_is_given() {
        let source = StoredToken::new("Bearer hush");
        let token = fetch(&source).await.unwrap();
        assert_eq!((token.secret(), token.lifetime()), ("hush", None));
        assert!(!format!("{source:?}").contains("hush"));

        let minute = Duration::from_secs(60);
        let token = fetch(&source.with_lifetime(minute)).await.unwrap();
        assert_eq!(token.lifetime(), Some(minute));
    }

    #[tokio::test]
    async fn a_rejected_token_is_read_again() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let source = StoredToken::file(path.to_path_buf());
        std::fs::write(&path, "first\n").unwrap();
        let first = fetch(&source).await.unwrap();
        let rejected = || TokenRequest::new(Reason::Rejected).with_rejected(first.clone());

        assert_eq!(source.fetch(rejected()).await.unwrap().secret(), "first");
        std::fs::write(&path, "second\n").unwrap();
        assert_eq!(source.fetch(rejected()).await.unwrap().secret(), "second");
    }

    #[tokio::test]
    async fn a_file_that_is_rewritten_with_the_same_length_holds_another_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = StoredToken::file(file.path());
        std::fs::write(file.path(), "token-1").unwrap();
        assert_eq!(fetch(&source).await.unwrap().secret(), "token-1");
        let modified = file.as_file().metadata().unwrap().modified().unwrap();
        std::fs::write(file.path(), "token-2").unwrap();
        // The modification time need not differ.
        file.as_file().set_modified(modified).unwrap();
        assert_eq!(fetch(&source).await.unwrap().secret(), "token-2");

        std::fs::write(file.path(), "not one").unwrap();
        assert!(fetch(&source).await.is_err() && !source.recovered().await);
        std::fs::write(file.path(), "token-3").unwrap();
        assert!(source.recovered().await);
    }

    #[tokio::test]
    async fn a_service_account_token_expires_when_it_says() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        // {"alg":"none"} . {"exp":9}
        std::fs::write(&path, "eyJhbGciOiJub25lIn0.eyJleHAiOjl9.x").unwrap();
        let token = fetch(&StoredToken::file(path.to_path_buf())).await.unwrap();
        assert_eq!(token.expiry(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(9)));
    }

    #[tokio::test]
    async fn what_is_stored_and_is_no_token_is_named_and_not_shown() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        std::fs::write(&path, "hush <html>").unwrap();
        let error = fetch(&StoredToken::file(path.to_path_buf())).await.unwrap_err();
        assert!(!error.is_transient());
        let cause = error.downcast_ref::<StoredTokenError>().unwrap();
        assert!(matches!(cause.reason(), InvalidToken::Character { at: 4, .. }));
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(path.to_str().unwrap()) && !shown.contains("hush"), "{shown}");
    }

    #[tokio::test]
    async fn a_missing_file_is_permanent_until_it_is_there() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("token");
        let source = StoredToken::file(&path);
        let error = fetch(&source).await.unwrap_err();
        assert!(!error.is_transient() && error.downcast_ref::<SecretError>().is_some());
        assert!(!source.recovered().await);

        std::fs::write(&path, "not a token").unwrap();
        assert!(!source.recovered().await);
        std::fs::write(&path, "token").unwrap();
        assert!(source.recovered().await);
    }

    #[tokio::test]
    async fn a_vault_that_fails_may_pass() {
        let sealed = Secret::from_fn(async || Err("sealed".into()));
        assert!(fetch(&StoredToken::new(sealed)).await.unwrap_err().is_transient());
    }
}
