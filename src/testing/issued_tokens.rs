//! Every token that was issued, and whether it is still valid.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A record of the tokens, which the two servers share: the API sees a revocation at once.
#[derive(Debug, Default)]
pub(super) struct IssuedTokens {
    /// The prefix of the tokens' names.
    prefix: String,
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    access: HashMap<String, Access>,
    /// The family of each refresh token: the login that it stems from.
    families: HashMap<String, usize>,
    /// By family, the one refresh token that is still valid; none once a token was used twice.
    live: Vec<Option<String>>,
}

#[derive(Debug)]
struct Access {
    /// `None` if the token lives until it is revoked.
    expires: Option<Instant>,
    is_revoked: bool,
    /// The user's token for which it was issued.
    subject: Option<String>,
}

// ===== impl IssuedTokens =====

impl IssuedTokens {
    pub(super) fn named(name: &str) -> Self {
        Self { prefix: format!("{name}-"), records: Mutex::default() }
    }

    /// Issues an access token that lives for this many seconds, for this user's token.
    pub(super) fn issue(&self, expires_in: Option<u64>, subject: Option<String>) -> String {
        let mut records = self.records();
        let token = format!("{}t-{}", self.prefix, records.access.len() + 1);
        let lifetime = expires_in.map(Duration::from_secs);
        let expires = lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime));
        records.access.insert(token.clone(), Access { expires, is_revoked: false, subject });
        token
    }

    pub(super) fn count(&self) -> u64 {
        self.records().access.len() as u64
    }

    /// Says why a token is not valid, if it is not.
    pub(super) fn check(&self, token: &str) -> Result<(), &'static str> {
        let records = self.records();
        let access = records.access.get(token).ok_or("the access token is unknown")?;
        if access.is_revoked {
            return Err("the access token was revoked");
        }
        match access.expires {
            Some(expires) if expires <= Instant::now() => Err("the access token expired"),
            _ => Ok(()),
        }
    }

    /// The user's token for which an access token was issued.
    pub(super) fn subject_of(&self, token: &str) -> Option<String> {
        self.records().access.get(token)?.subject.clone()
    }

    pub(super) fn revoke(&self, token: &str) {
        if let Some(access) = self.records().access.get_mut(token) {
            access.is_revoked = true;
        }
    }

    pub(super) fn revoke_all(&self) {
        self.records().access.values_mut().for_each(|access| access.is_revoked = true);
    }

    /// Issues the first refresh token of a new family.
    pub(super) fn log_in(&self) -> String {
        let mut records = self.records();
        let family = records.live.len();
        records.live.push(None);
        records.next_refresh_token(&self.prefix, family)
    }

    /// Exchanges a refresh token for its successor. A token that was used before ends its family
    /// (RFC 9700 §4.14.2).
    pub(super) fn rotate(&self, token: &str) -> Option<String> {
        let mut records = self.records();
        let family = *records.families.get(token)?;
        let live = records.live[family].take();
        (live.as_deref() == Some(token)).then(|| records.next_refresh_token(&self.prefix, family))
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ===== impl Records =====

impl Records {
    fn next_refresh_token(&mut self, prefix: &str, family: usize) -> String {
        let token = format!("{prefix}r-{}", self.families.len() + 1);
        self.families.insert(token.clone(), family);
        self.live[family] = Some(token.clone());
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_until_it_expires() {
        let tokens = IssuedTokens::default();
        let (short, endless) = (tokens.issue(Some(2), None), tokens.issue(None, None));
        let centuries = tokens.issue(Some(u64::MAX), None);
        tokio::time::advance(Duration::from_millis(1999)).await;
        assert_eq!(tokens.check(&short), Ok(()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(tokens.check(&short), Err("the access token expired"));
        assert_eq!(tokens.check(&endless), Ok(()));
        assert_eq!(tokens.check(&centuries), Ok(()));
    }

    #[test]
    fn one_token_is_revoked_and_the_others_stay() {
        let tokens = IssuedTokens::default();
        let (first, second) = (tokens.issue(None, None), tokens.issue(None, None));
        assert_eq!((first.as_str(), second.as_str()), ("t-1", "t-2"));
        tokens.revoke(&first);
        tokens.revoke("t-3");
        assert_eq!(tokens.check(&first), Err("the access token was revoked"));
        assert_eq!(tokens.check(&second), Ok(()));
        assert_eq!(tokens.check("t-3"), Err("the access token is unknown"));
    }

    #[test]
    fn a_refresh_token_that_is_used_twice_ends_its_family_and_no_other() {
        let tokens = IssuedTokens::default();
        let (first, other) = (tokens.log_in(), tokens.log_in());
        let second = tokens.rotate(&first).unwrap();
        assert_eq!((second.as_str(), tokens.rotate("r-9")), ("r-3", None));
        assert_eq!(tokens.rotate(&first), None);
        assert_eq!(tokens.rotate(&second), None, "the thief's or the owner's: nobody knows");
        assert!(tokens.rotate(&other).is_some());
    }
}
