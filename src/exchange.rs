//! One request's walk through the layer, its replay included, without I/O.
//!
//! [`Rules`](crate::rules::Rules) admit a request and give it a [`Pass`]. From there on an
//! exchange says what comes next, and its driver does it:
//!
//! ```text
//! First ──put──▶ the inner service ──answered──▶ Answer                        the response
//!                       │                  └────▶ Renew ──renewed(Ok)──▶ Replay, put, call again
//!                       │                             └──renewed(Err)──▶ the rejection, untouched
//!                       └──broken──▶ the inner service's error
//!
//! Replay ──put──▶ the inner service ──answered / broken──▶ whatever comes back
//! ```

use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use crate::{
    cache::Rejection,
    error::TokenError,
    observe::{self, Replay as Outcome},
    rules::{Pass, Recheck, ResponseHead, Verdict, Waiting},
    token::AccessToken,
};

/// One request at its first or its second call, with what it carries.
#[derive(Debug)]
pub(crate) struct Exchange {
    pass: Arc<Pass>,
}

/// What to do with a response.
#[derive(Debug)]
pub(crate) enum Next {
    /// Return it as the answer.
    Answer,
    /// It rejects the token, and the request can be sent again: wait for the renewal, and pass its
    /// outcome to [`Exchange::renewed`].
    Renew(Rejection),
}

/// What to do with a request that has waited for something after it got its token.
#[derive(Debug)]
pub(crate) enum Still {
    /// Send it.
    Send,
    /// Wait for another token. The exchange starts again with that one.
    Wait(Waiting),
    /// Fail with this.
    Fail(TokenError),
}

// ===== impl Exchange =====

impl Exchange {
    pub(crate) fn new(pass: Arc<Pass>) -> Self {
        Self { pass }
    }

    /// Puts the token on; `false` if the request brings its own, and so passes untouched.
    #[inline]
    pub(crate) fn put(&self, headers: &mut HeaderMap) -> bool {
        self.pass.put(headers)
    }

    /// Whether [`answered`](Self::answered) wants the whole head of the response.
    pub(crate) fn judges_parts(&self) -> bool {
        self.pass.judges_parts()
    }

    /// Whether a response with this status says nothing new and so is the answer.
    #[inline]
    pub(crate) fn takes_for_granted(&self, status: StatusCode) -> bool {
        self.pass.takes_for_granted(status)
    }

    /// Judges the response. `can_replay` says whether what was kept of the request can be sent.
    pub(crate) fn answered(
        &self,
        response: &ResponseHead<'_>,
        can_replay: impl FnOnce() -> bool,
    ) -> Next {
        match self.pass.verdict(response) {
            Verdict::Accepted => self.pass.accepted(),
            Verdict::Silent => {}
            Verdict::Rejected => return self.rejected(response, can_replay()),
        }
        self.replay_ended(Outcome::Answered);
        Next::Answer
    }

    /// The inner service returned an error.
    pub(crate) fn broken(&self) {
        self.replay_ended(Outcome::Failed);
    }

    /// Takes the outcome of the renewal. Returns the replay, or `None` if the rejection is the
    /// answer.
    pub(crate) fn renewed(&self, outcome: Result<AccessToken, TokenError>) -> Option<Self> {
        match outcome {
            Ok(token) => Some(Self::new(Arc::new(self.pass.with(token)))),
            Err(error) => {
                observe::renewal_failed(self.pass.cache().label(), &error);
                None
            }
        }
    }

    /// Reports that the replay is about to be sent.
    pub(crate) fn replaying(&self) {
        observe::replaying(self.pass.cache().label(), self.pass.origin());
    }

    /// Looks at the token again, after the request had to wait for something else.
    pub(crate) fn recheck(&mut self) -> Still {
        match self.pass.recheck() {
            Recheck::Good => Still::Send,
            Recheck::Newer(pass) => {
                self.pass = pass;
                Still::Send
            }
            Recheck::Waiting(waiting) => Still::Wait(waiting),
            Recheck::Failed(error) => Still::Fail(error),
        }
    }

    #[inline]
    pub(crate) fn pass(&self) -> &Arc<Pass> {
        &self.pass
    }

    /// If the rejection is the answer, the renewal runs in the background.
    #[cold]
    fn rejected(&self, response: &ResponseHead<'_>, can_replay: bool) -> Next {
        let rejection = self.pass.rejection(response);
        if can_replay && !self.pass.is_replay() {
            return Next::Renew(rejection);
        }
        self.replay_ended(Outcome::Rejected);
        self.pass.cache().reject_in_background(rejection);
        Next::Answer
    }

    fn replay_ended(&self, outcome: Outcome) {
        if self.pass.is_replay() {
            let label = self.pass.cache().label();
            observe::replayed(label, self.pass.named_origin(), outcome);
        }
    }
}

#[cfg(test)]
mod tests;
