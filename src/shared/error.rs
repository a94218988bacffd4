//! Why a fleet has no token to give, where the source did not say.

use std::time::Duration;

use super::{seal::SealError, store::StoreError};
use crate::error::TokenError;

/// Why a [`Shared`](super::Shared) source has no token to give, where the source below did not
/// say.
///
/// It is the cause of a [`TokenError`]: `error.downcast_ref::<SharedError>()`.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharedError {
    /// The store does not answer, and a fetch spends something of which only the store knows the
    /// newest: nothing was sent.
    #[error("the store that the fleet shares its token by does not answer: {0}")]
    StoreAway(#[source] StoreError),
    /// The key that seals tokens cannot be used: nothing was sent.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A fetch of this process or another one has just failed.
    #[error("a fetch for the fleet has just failed: the next one may start in {0:?}")]
    Paused(Duration),
    /// A token that was fetched because an API had rejected the one before was rejected too, and
    /// too soon.
    #[error("the fleet's access token has just been renewed: the next renewal may start in {0:?}")]
    TooSoon(Duration),
    /// A process ended, or lost its answer, after it had sent the refresh token, which has
    /// probably been spent. The one more try that it got has failed too: only a new grant helps.
    /// What the last fetch has come to, if it has come to anything.
    #[error(
        "the fleet's refresh token is lost: a process that had sent it ended before it had stored \
         the next one, and a new grant is needed: {0}"
    )]
    RefreshTokenLost(TokenError),
    /// The source spends a refresh token which all keys share, and records of keys share nothing:
    /// nothing was sent.
    #[error(
        "a source that spends its refresh token cannot be shared by keys: ask without a `TokenKey`"
    )]
    KeyedRotation,
}

impl SharedError {
    pub(super) fn into_token_error(self) -> TokenError {
        match &self {
            Self::Paused(left) | Self::TooSoon(left) => {
                let left = *left;
                TokenError::transient(self).with_retry_after(left)
            }
            Self::StoreAway(_) => TokenError::transient(self),
            Self::Seal(error) if error.is_transient() => TokenError::transient(self),
            Self::Seal(_) | Self::RefreshTokenLost(_) | Self::KeyedRotation => {
                TokenError::permanent(self).for_all_keys()
            }
        }
    }
}
