//! Errors of a shared source that its inner source did not cause.

use std::time::Duration;

use super::{seal::SealError, store::StoreError};
use crate::error::TokenError;

/// An error of a [`Shared`](super::Shared) source that the source inside did not cause.
///
/// Recover it from a [`TokenError`] with `error.downcast_ref::<SharedError>()`.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharedError {
    /// The store does not answer, and only the store has the current refresh token: nothing was
    /// sent.
    #[error("the fleet's token store does not answer: {0}")]
    StoreAway(#[source] StoreError),
    /// The seal's key cannot be used: nothing was sent.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A fetch of this process, or of another one, has just failed.
    #[error("a fetch for the fleet has just failed: the next one may start in {0:?}")]
    Paused(Duration),
    /// An API has rejected a token that was itself fetched, seconds ago, to replace a rejected
    /// one.
    #[error("the fleet's access token has just been renewed: the next renewal may start in {0:?}")]
    TooSoon(Duration),
    /// A process sent the refresh token, and ended or lost the answer before it stored the next
    /// one. The service has probably spent the refresh token, and one more attempt has failed too:
    /// a new grant is needed. The value is the error of the last fetch.
    #[error(
        "the fleet's refresh token is lost, a new grant is needed: a process sent it and ended \
         before it stored the next one: {0}"
    )]
    RefreshTokenLost(TokenError),
    /// The source has a rotating refresh token, which all keys would have to share, but each key
    /// has a record of its own: nothing was sent.
    #[error(
        "a source with a rotating refresh token cannot be shared by keys: ask without a `TokenKey`"
    )]
    KeyedRotation,
}

impl SharedError {
    pub(super) fn into_token_error(self) -> TokenError {
        match &self {
            Self::Paused(left) | Self::TooSoon(left) => {
                let left = *left;
                // Each key has a record of its own, and so a pause of its own.
                TokenError::transient(self).with_retry_after(left).for_this_key()
            }
            Self::StoreAway(_) => TokenError::transient(self),
            Self::Seal(error) if error.is_transient() => TokenError::transient(self),
            Self::Seal(_) | Self::RefreshTokenLost(_) | Self::KeyedRotation => {
                TokenError::permanent(self).for_all_keys()
            }
        }
    }
}
