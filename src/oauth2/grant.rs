//! What is given for an access token, and what becomes of a refresh token (RFC 6749 §6).

use std::{
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use zeroize::Zeroizing;

use crate::{
    secret::{Secret, SecretError},
    source::TokenRequest,
};

type Text = Zeroizing<String>;

/// What is given for an access token.
pub(super) enum Grant {
    /// The client's own credentials (RFC 6749 §4.4), or whatever the parameters hold: the same
    /// request is made again for each token.
    Repeated,
    /// A refresh token (RFC 6749 §6), which each answer may replace.
    Refresh(Refresh),
}

/// A refresh token and what has become of it.
pub(super) struct Refresh {
    initial: Secret,
    hook: Option<Box<Hook>>,
    fate: Mutex<Fate>,
}

pub(super) type Hook =
    dyn Fn(Zeroizing<String>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// What this endpoint knows about refresh tokens beyond what a request carries. It matters
/// where the carried one is not the last: after a flight that was given up.
#[derive(Default)]
struct Fate {
    /// The last exchange that brought a new one: the old and the new.
    replaced: Option<(Text, Text)>,
    /// One that was exchanged, and no answer said what came of it.
    doubtful: Option<Text>,
    /// The last one of a request that the service no longer took.
    refused: Option<Text>,
    /// Whether the one that was chosen last came from a request, not from the secret.
    is_kept: bool,
    /// What the secret read last.
    initial: Option<Text>,
    /// What the secret read when that was replaced: old by now.
    spent: Option<Text>,
}

// ===== impl Refresh =====

impl Refresh {
    pub(super) fn new(initial: Secret, hook: Option<Box<Hook>>) -> Self {
        Self { initial, hook, fate: Mutex::default() }
    }

    /// The refresh token to exchange: the one that came last, else the one that was
    /// configured. If the one that came last is refused, and the configured one has been
    /// changed meanwhile, somebody has mended it.
    pub(super) async fn choose(&self, request: &TokenRequest) -> Result<Text, SecretError> {
        let kept = request.previous().and_then(|token| token.refresh_token());
        let initial = self.initial.read().await;
        let mut fate = self.fate();
        fate.initial = initial.as_ref().ok().cloned();
        let kept = kept.map(|kept| fate.successor(kept));
        let chosen = match (kept, initial) {
            (Some(kept), Ok(initial)) if fate.mends(&kept, &initial) => (false, initial),
            (Some(kept), _) => (true, kept),
            (None, initial) => (false, fate.successor(&initial?)),
        };
        fate.is_kept = chosen.0;
        Ok(chosen.1)
    }

    /// Marks a refresh token that is about to be sent; whether it was in doubt already.
    pub(super) fn sending(&self, sent: &Text) -> bool {
        self.fate().doubtful.replace(sent.clone()).as_ref() == Some(sent)
    }

    /// What became of it is known: it is still there, or the service said otherwise.
    pub(super) fn settled(&self) {
        self.fate().doubtful = None;
    }

    /// The service no longer takes it.
    pub(super) fn refused(&self, sent: &Text) {
        let mut fate = self.fate();
        fate.doubtful = None;
        if fate.is_kept {
            fate.refused = Some(sent.clone());
        }
    }

    /// The service took it and gave that one in its place. The hook is seen through even if
    /// the caller is dropped: by then the new one is the only one that works.
    pub(super) async fn replaced(&self, sent: &Text, new: &Text) {
        self.fate().replace(sent, new);
        if let Some(hook) = &self.hook {
            // A hook that panics has said so itself, and the token is good all the same.
            let _ = tokio::spawn(hook(new.clone())).await;
        }
    }

    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ===== impl Fate =====

impl Fate {
    fn successor(&self, token: &str) -> Text {
        match &self.replaced {
            Some((old, new)) if **old == *token => new.clone(),
            _ => Zeroizing::new(token.to_owned()),
        }
    }

    fn mends(&self, kept: &Text, initial: &Text) -> bool {
        let is_refused = self.refused.as_ref() == Some(kept);
        is_refused && initial != kept && self.spent.as_ref() != Some(initial)
    }

    fn replace(&mut self, sent: &Text, new: &Text) {
        self.replaced = Some((sent.clone(), new.clone()));
        if self.initial.as_ref() == Some(sent) {
            self.spent = Some(sent.clone());
        }
    }
}
