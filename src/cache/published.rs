//! What requests read without the lock.

use tokio::time::Instant;

use super::{
    answer::Grant,
    sync::{Counter, Slot},
};
use crate::{
    clock::Moment,
    observe::{self, Label},
    token::AccessToken,
};

/// The current token, for callers that name no origin, and the version of the state.
#[derive(Debug, Default)]
pub(super) struct Published {
    version: Counter,
    ready: Slot<Ready>,
}

/// A token that the cache may hand out without asking the state.
#[derive(Debug)]
struct Ready {
    grant: Grant,
    stamp: Stamp,
}

/// How long an answer of the state holds: for one version of the state, and until a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    version: u64,
    until: Moment,
    expired: Moment,
    suspect: bool,
}

// ===== impl Published =====

impl Published {
    /// Publishes the state's changes. Called under the lock, so that the newest comes last.
    pub(super) fn publish(&self, version: u64, grant: Option<Grant>, now: Instant) {
        let is_known = self.ready.read(|before| match (before, &grant) {
            // Every change of a grant changes the version.
            (Some(before), Some(grant)) => before.grant.version == grant.version,
            (before, grant) => before.is_none() && grant.is_none(),
        });
        if !is_known {
            let ready = |grant: Grant| Ready { stamp: Stamp::new(&grant, now), grant };
            self.ready.store(grant.map(ready));
        }
        if self.version.load() != version {
            self.version.store(version);
        }
    }

    /// The token, as long as it may be used without asking the state.
    pub(super) fn token(&self) -> Option<(AccessToken, Stamp)> {
        self.ready.read(|ready| {
            let ready = ready.filter(|ready| self.holds(&ready.stamp))?;
            Some((ready.grant.token.clone(), ready.stamp))
        })
    }

    /// Whether the answer with this stamp still holds.
    #[inline]
    pub(super) fn holds(&self, stamp: &Stamp) -> bool {
        self.version.load() == stamp.version && Moment::now() < stamp.until
    }
}

// ===== impl Stamp =====

impl Stamp {
    pub(super) fn new(grant: &Grant, now: Instant) -> Self {
        Self {
            version: grant.version,
            until: Moment::of(grant.until, now),
            expired: Moment::of(grant.expired, now),
            suspect: grant.suspect,
        }
    }

    /// For a token that is used once, whatever the state thinks of it.
    pub(super) const fn for_one_use() -> Self {
        Self { version: u64::MAX, until: Moment::PAST, expired: Moment::PAST, suspect: false }
    }

    pub(crate) fn is_for_one_use(&self) -> bool {
        *self == Self::for_one_use()
    }

    /// Whether an API has rejected the token.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// Whether the token has expired.
    pub(crate) fn is_expired(&self) -> bool {
        self.expired <= Moment::now()
    }

    /// Reports a use of the token.
    #[inline]
    pub(super) fn observe_use<'a>(&self, source: impl FnOnce() -> &'a Label) {
        observe::used(source, self.suspect, || self.expired.left());
    }
}
