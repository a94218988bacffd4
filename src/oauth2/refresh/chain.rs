//! Chooses the refresh token to exchange next (RFC 6749 §6).
//!
//! Rotated refresh tokens form a chain: each exchange replaces the last one. A request carries the
//! refresh token that came with the last *published* access token. It may be any number of
//! exchanges old, if the fetches of those were dropped. So the endpoint keeps the end of the chain
//! itself.
//!
//! ```text
//!  nothing known ──answer, or a request that carries one──▶ newest
//!  newest ──answer with another──▶ newest; the one before is spent
//!  newest ──the service no longer accepts it──▶ refused
//!  refused ──the configured secret has a new value──▶ that one is sent
//!  refused ──answer──▶ newest
//! ```
//!
//! In addition, a token that was sent is in doubt until an answer shows its outcome.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
};

use zeroize::Zeroizing;

type Text = Zeroizing<String>;

/// The number of spent tokens to remember, in eight bytes each. A request can carry an older one
/// only after as many dropped fetches in a row.
const MAX_SPENT: usize = 1 << 16;

/// What an endpoint knows about its refresh tokens.
#[derive(Default)]
pub(super) struct Chain {
    /// The latest one, from an answer or a request.
    newest: Option<Text>,
    /// Whether the service no longer accepts the newest.
    is_refused: bool,
    spent: Spent,
    /// One that was sent, with an unknown outcome.
    doubtful: Option<Text>,
}

/// Replaced tokens, as hashes under a random key.
#[derive(Default)]
struct Spent {
    key: RandomState,
    hashes: VecDeque<u64>,
}

// ===== impl Chain =====

impl Chain {
    /// The token to send: the newest; or the configured one, if there is no newest, or if the
    /// newest was refused and the configured one is new.
    pub(super) fn next(
        &mut self,
        carried: Option<&str>,
        is_keyed: bool,
        configured: Option<&Text>,
    ) -> Option<Text> {
        // A key that was idle may carry one that is no longer among the remembered ones.
        let is_trusted = !is_keyed || self.newest.is_none();
        let carried = carried.filter(|_| is_trusted).filter(|carried| !self.knows(carried));
        if let Some(carried) = carried {
            // The token comes from another process, so it is newer than the one known here.
            self.append(&Zeroizing::new(carried.to_owned()));
        }
        let is_wanted = |configured: &&Text| self.newest.is_none() || self.is_mended(configured);
        configured.filter(is_wanted).or(self.newest.as_ref()).cloned()
    }

    /// Records that one is about to be sent. Returns whether it was already in doubt.
    pub(super) fn sending(&mut self, sent: &Text) -> bool {
        self.doubtful.replace(sent.clone()).as_ref() == Some(sent)
    }

    /// Records a known outcome: the token is still valid.
    pub(super) fn settled(&mut self) {
        self.doubtful = None;
    }

    /// Records that the service no longer accepts it.
    pub(super) fn refused(&mut self, sent: &Text) {
        self.doubtful = None;
        self.is_refused |= self.newest.as_ref() == Some(sent);
    }

    /// Records that the service accepted it, and returned another or left it as it is.
    pub(super) fn answered(&mut self, sent: &Text, new: &Text) {
        self.doubtful = None;
        if new != sent {
            self.spent.add(sent);
        }
        self.append(new);
    }

    fn append(&mut self, new: &Text) {
        self.is_refused = false;
        match self.newest.replace(new.clone()) {
            Some(before) if before != *new => self.spent.add(&before),
            _ => {}
        }
    }

    fn knows(&self, token: &str) -> bool {
        self.newest.as_ref().is_some_and(|newest| **newest == *token) || self.spent.has(token)
    }

    fn is_mended(&self, configured: &Text) -> bool {
        self.is_refused && !self.knows(configured)
    }
}

// ===== impl Spent =====

impl Spent {
    fn add(&mut self, token: &str) {
        if self.has(token) {
            return;
        }
        if self.hashes.len() == MAX_SPENT {
            self.hashes.pop_front();
        }
        self.hashes.push_back(self.key.hash_one(token));
    }

    fn has(&self, token: &str) -> bool {
        self.hashes.contains(&self.key.hash_one(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Text {
        Zeroizing::new(text.to_owned())
    }

    fn next(chain: &mut Chain, carried: &str, configured: &str) -> String {
        let carried = Some(carried).filter(|carried| !carried.is_empty());
        chain.next(carried, false, Some(&text(configured))).unwrap().to_string()
    }

    /// The chain after `rt-1` has replaced `rt-0`, and so on.
    fn after(exchanges: usize) -> Chain {
        let mut chain = Chain::default();
        for at in 0..exchanges {
            chain.answered(&text(&format!("rt-{at}")), &text(&format!("rt-{}", at + 1)));
        }
        chain
    }

    #[test]
    fn the_configured_token_is_sent_until_another_arrives() {
        assert_eq!(next(&mut Chain::default(), "", "rt-0"), "rt-0");
        assert_eq!(next(&mut after(1), "", "rt-0"), "rt-1");
        assert!(Chain::default().next(None, false, None).is_none());
        assert_eq!(*after(1).next(None, false, None).unwrap(), "rt-1");
    }

    #[test]
    fn any_token_of_a_chain_leads_to_the_newest() {
        let mut chain = after(1000);
        for carried in ["", "rt-0", "rt-1", "rt-500", "rt-999", "rt-1000"] {
            for configured in ["rt-0", "rt-7", "rt-1000"] {
                assert_eq!(next(&mut chain, carried, configured), "rt-1000", "{carried}");
            }
        }
    }

    #[test]
    fn an_unknown_token_in_a_request_counts_as_newer() {
        let mut chain = after(3);
        assert_eq!(next(&mut chain, "of-another-process", "rt-0"), "of-another-process");
        assert_eq!(next(&mut chain, "rt-3", "rt-0"), "of-another-process");
        assert_eq!(next(&mut chain, "", "rt-0"), "of-another-process");
    }

    #[test]
    fn a_forgotten_token_of_an_idle_key_does_not_count_as_newer() {
        let mut chain = after(3);
        let carried = Some("forgotten-since");
        assert_eq!(*chain.next(carried, true, None).unwrap(), "rt-3");
        assert_eq!(*Chain::default().next(carried, true, None).unwrap(), "forgotten-since");
    }

    #[test]
    fn a_new_token_replaces_a_refused_one_and_a_spent_token_does_not() {
        let mut chain = after(2);
        assert_eq!(next(&mut chain, "rt-2", "login-2"), "rt-2");
        chain.refused(&text("rt-2"));
        for spent in ["rt-0", "rt-1", "rt-2"] {
            assert_eq!(next(&mut chain, "rt-2", spent), "rt-2");
        }
        assert_eq!(next(&mut chain, "rt-1", "login-2"), "login-2");
        // The service refuses this one too: ask for the next one.
        chain.refused(&text("login-2"));
        assert_eq!(next(&mut chain, "rt-2", "login-3"), "login-3");
        chain.answered(&text("login-3"), &text("login-3"));
        assert_eq!(next(&mut chain, "rt-2", "login-4"), "login-3");
    }

    #[test]
    fn the_refusal_of_an_old_token_does_not_affect_the_newest() {
        let mut chain = after(2);
        chain.refused(&text("rt-1"));
        assert_eq!(next(&mut chain, "", "login-2"), "rt-2");
    }

    #[test]
    fn the_memory_of_spent_tokens_is_bounded() {
        let mut spent = Spent::default();
        (0..=MAX_SPENT).for_each(|at| {
            if spent.hashes.len() == MAX_SPENT {
                spent.hashes.pop_front();
            }
            spent.hashes.push_back(at as u64);
        });
        spent.add("one more");
        assert!(spent.has("one more"));
        assert_eq!(spent.hashes.len(), MAX_SPENT);
    }
}
