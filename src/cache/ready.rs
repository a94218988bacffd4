//! What requests read without asking the state.

use tokio::time::Instant;

use crate::{origin::Origin, token::AccessToken};

/// A token that may be handed out with no further question.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) token: AccessToken,
    /// From then on the state has to be asked; `None`: never.
    pub(super) until: Option<Instant>,
    /// When it expires.
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "it is only told"))]
    pub(super) expired: Option<Instant>,
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "it is only told"))]
    pub(super) suspect: bool,
    /// Whether an acceptance says something new, at an origin that is not among the proven.
    pub(super) watched: bool,
    pub(super) proven: Vec<Option<Origin>>,
}

impl Ready {
    pub(super) fn token_at(&self, now: Instant) -> Option<&AccessToken> {
        self.until.is_none_or(|until| now < until).then_some(&self.token)
    }

    /// Whether the state has to hear that a request with this token was accepted there.
    pub(super) fn is_news(&self, token: &AccessToken, origin: Option<&Origin>) -> bool {
        self.watched
            && self.token.is_same(token)
            && !self.proven.iter().any(|proven| proven.as_ref() == origin)
    }
}
