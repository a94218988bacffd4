//! The grants, and the state of a refresh token (RFC 6749 §6).

mod chain;
mod hook;
mod run;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use self::{chain::Chain, hook::Hooks};
use super::{error::Asked, overlay::Overlay};
use crate::{
    observe::Label,
    secret::{Secret, SecretError},
    source::TokenRequest,
};

pub(super) use self::{hook::Hook, run::Runs};

type Text = Zeroizing<String>;

/// The grant that is exchanged for an access token.
pub(super) enum Grant {
    /// The client's own credentials (RFC 6749 §4.4), or the parameters: each token needs the same
    /// request again.
    Repeated,
    /// A refresh token (RFC 6749 §6), which each answer may replace.
    Refresh(Box<Refresh>),
    /// The token of the request's subject, with the name of its parameter.
    Subject(&'static str),
}

/// A refresh token and its state.
pub(super) struct Refresh {
    configured: Secret,
    /// The exchanges, one at a time.
    pub(super) runs: Runs,
    chain: Mutex<Chain>,
    hooks: Option<Arc<Hooks>>,
}

// ===== impl Refresh =====

impl Refresh {
    pub(super) fn new(configured: Secret, hook: Option<Box<Hook>>) -> Self {
        Self {
            configured,
            runs: Runs::default(),
            chain: Mutex::default(),
            hooks: hook.map(|hook| Arc::new(Hooks::new(hook))),
        }
    }

    /// The refresh token to exchange, the same for all keys.
    pub(super) async fn choose(&self, request: &TokenRequest) -> Result<Text, SecretError> {
        let carried = request.previous().and_then(|token| token.refresh_token());
        let configured = self.configured.read().await;
        let is_keyed = Overlay::of(request).asked() != Asked::Nothing;
        let next = self.chain().next(carried, is_keyed, configured.as_ref().ok());
        next.map_or(configured, Ok)
    }

    /// Records that a refresh token is about to be sent. Returns whether it was already in doubt.
    pub(super) fn sending(&self, sent: &Text) -> bool {
        self.chain().sending(sent)
    }

    /// Records a known outcome: the token is still valid, or the service has said otherwise.
    pub(super) fn settled(&self) {
        self.chain().settled();
    }

    /// Records that the service no longer accepts it.
    pub(super) fn refused(&self, sent: &Text) {
        self.chain().refused(sent);
    }

    /// Records that the service accepted it, and returned a new one or left it as it is. The hook
    /// stores a new one in the background: the next exchange sends it, stored or not.
    pub(super) fn answered(&self, sent: &Text, new: &Text) {
        self.chain().answered(sent, new);
        if let Some(hooks) = self.hooks.as_ref().filter(|_| new != sent) {
            hooks.push(new.clone());
        }
    }

    /// Starts the hook again if its runtime has ended, for the tokens of that source.
    pub(super) fn resume_hooks(&self, source: &Label) {
        if let Some(hooks) = &self.hooks {
            hooks.label(source);
            hooks.resume();
        }
    }

    /// Waits until the hook has finished with each new refresh token.
    pub(super) async fn hooks_ended(&self) {
        if let Some(hooks) = &self.hooks {
            hooks.idle().await;
        }
    }

    fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
