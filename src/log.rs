//! What is told to the log (feature `tracing`), and at which level. Nothing here sees a secret.

use crate::{Reason, TokenError};

/// The crate's own name, not that of a private module.
#[cfg(feature = "tracing")]
const TARGET: &str = "tower_bearer";

/// A flight has started.
pub(crate) fn fetching(reason: Reason) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: TARGET, ?reason, "fetching an access token");
    #[cfg(not(feature = "tracing"))]
    let _ = reason;
}

/// One attempt of a flight has failed, and another follows.
pub(crate) fn attempt_failed(error: &TokenError, made: u32) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: TARGET, %error, attempt = made, "an attempt to fetch an access token failed");
    #[cfg(not(feature = "tracing"))]
    let _ = (error, made);
}

/// A flight has ended.
pub(crate) fn landed(error: Option<&TokenError>) {
    #[cfg(feature = "tracing")]
    match error {
        None => tracing::debug!(target: TARGET, "fetched an access token"),
        Some(error) => tracing::warn!(target: TARGET, %error, "no access token could be fetched"),
    }
    #[cfg(not(feature = "tracing"))]
    let _ = error;
}

/// A rejected token is not replaced: the rejection is the answer.
pub(crate) fn renewal_failed(error: &TokenError) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TARGET, %error, "a rejected access token was not renewed");
    #[cfg(not(feature = "tracing"))]
    let _ = error;
}

/// A rejected request is sent again.
pub(crate) fn replaying() {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: TARGET, "sending a rejected request again with another access token");
}
