//! Every decision about a record, without I/O: what a process does that sees this record at this
//! time of the store's clock, and what it writes. The states are in the module's documentation.

use std::time::Duration;

use zeroize::Zeroizing;

use super::{
    record::{Doubt, Holder, Lease, NOBODY, Record, Stored},
    time::{StoreTime, millis},
};
use crate::{
    source::{Reason, TokenRequest},
    token::{AccessToken, InvalidToken},
};

/// How long nobody fetches after a fetch has failed that may be tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// The same after one that would fail again: other processes may be configured otherwise.
const LONG_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause that a token service can ask for.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// How long after a renewal the fleet does not renew again.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(5);
/// How much longer than its lease one who may have spent something has, before another one tries
/// the same: the store may have been away for all of the lease.
const GRACE: Duration = Duration::from_secs(3);
/// A token that expires sooner is not handed out.
const MIN_LEFT: Duration = Duration::from_secs(10);

/// What a fleet goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// How long nobody else fetches while one does.
    pub(super) lease: Duration,
    /// Whether a fetch spends what the next one needs.
    pub(super) rotates: bool,
    /// How long those who hold a newer record have to put it back into an emptied store, before
    /// something is spent. `None`: the store does not forget.
    pub(super) settle: Option<Duration>,
}

/// What token is wanted.
pub(super) struct Want {
    reason: Reason,
    previous: Option<AccessToken>,
    rejected: Option<AccessToken>,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// That token is wanted.
    Have(Stored),
    /// Somebody fetches, for so long at most: look again when something has changed.
    Wait(Duration),
    /// Fetch, and store what comes of it.
    Lead(Lead),
    /// Replace the record by that one, unless it is another one by now. Then ask again.
    Write(Record),
    /// Nobody fetches for so long, because a fetch has failed.
    Paused(Duration),
    /// Nobody renews for so long.
    TooSoon(Duration),
}

/// The part of the one who fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lead {
    me: Holder,
    /// The generation that the next one replaces.
    base: u64,
    /// Its token, with the refresh token to send.
    previous: Option<Stored>,
    doubt: Doubt,
    pub(super) rotates: bool,
}

/// How a fetch failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) is_transient: bool,
    /// Whether nobody knows if something was spent.
    pub(super) is_unknown: bool,
    pub(super) retry_after: Option<Duration>,
}

/// What becomes of a fetched token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Storing {
    /// Replace the record by that one.
    Write(Record),
    /// It is stored: the answer to the write was lost.
    Done,
    /// Another one has replaced the same generation, or a later one.
    Stale,
}

// ===== Asking =====

/// What a process does that wants a token and sees that record. `held`: the newest that it has
/// ever seen there. `me`: this ask, and no other one.
pub(super) fn ask(
    want: &Want,
    me: Holder,
    rules: &Rules,
    seen: Option<&Record>,
    held: Option<&Record>,
    now: StoreTime,
) -> Step {
    if let Some(record) = put_back(rules, seen, held, now) {
        return Step::Write(record);
    }
    let Some(record) = seen else {
        return Step::Write(match rules.settle.filter(|_| rules.rotates) {
            Some(settle) => Record { lease: Some(Lease::of(NOBODY, settle, now)), ..vacant() },
            None => Record { lease: Some(Lease::of(me, rules.lease, now)), ..vacant() },
        });
    };
    if let Some(token) = record.token.as_ref().filter(|token| want.is_met_by(token, now)) {
        return Step::Have(token.clone());
    }
    if let Some(lease) = record.lease.filter(|lease| lease.is_running(now)) {
        return if lease.holder == me && !lease.is_grace {
            Step::Lead(Lead::of(record, me, rules))
        } else {
            Step::Wait(lease.until.since(now))
        };
    }
    if let Some(grace) = record.grace(rules, now) {
        return Step::Write(Record { lease: Some(grace), ..record.clone() });
    }
    if let Some(until) = record.pause_until.filter(|until| now < *until) {
        return Step::Paused(until.since(now).min(MAX_PAUSE));
    }
    if let Some(left) = record.token.as_ref().and_then(|token| want.too_soon(token, now)) {
        return Step::TooSoon(left);
    }
    Step::Write(Record {
        doubt: record.doubt_of_next(rules),
        lease: Some(Lease::of(me, rules.lease, now)),
        pause_until: None,
        ..record.clone()
    })
}

/// What one who holds a newer record than the store has writes there.
pub(super) fn put_back(
    rules: &Rules,
    seen: Option<&Record>,
    held: Option<&Record>,
    now: StoreTime,
) -> Option<Record> {
    let held = held.filter(|held| seen.is_none_or(|seen| seen.generation < held.generation))?;
    let rotates = held.rotates(rules);
    let is_worth_it = rotates || held.token.as_ref().is_some_and(|token| token.has_life_left(now));
    is_worth_it.then(|| {
        // Nobody leads until those who hold a still newer one have had their time, and whoever
        // fetches just now.
        let settle = rules.settle.filter(|_| rotates);
        Record {
            lease: settle.map(|settle| Lease::of(NOBODY, settle, now)),
            pause_until: None,
            ..held.clone()
        }
    })
}

/// What one writes who does not know whether it has got a lease, and does not lead. `is_unchanged`:
/// the record is still the one that the lease was asked for with.
pub(super) fn released(current: Option<&Record>, me: Holder, is_unchanged: bool) -> Option<Record> {
    let is_mine = current.is_some_and(|it| it.lease.is_some_and(|lease| lease.holder == me));
    let record = current.cloned().unwrap_or_default();
    if is_mine {
        return Some(Record { lease: None, ..record });
    }
    // The same again has another version: what is on its way to the store then comes too late.
    is_unchanged.then_some(record)
}

fn vacant() -> Record {
    Record::default()
}

impl Want {
    pub(super) fn of(request: &TokenRequest) -> Self {
        Self {
            reason: request.reason(),
            previous: request.previous().cloned(),
            rejected: request.rejected().cloned(),
        }
    }

    pub(super) fn is_renewal(&self) -> bool {
        self.reason == Reason::Rejected
    }

    pub(super) fn is_met_by(&self, token: &Stored, now: StoreTime) -> bool {
        let is_previous = self.previous.as_ref().is_some_and(|it| it.secret() == *token.secret);
        let is_refused = self.rejects(token)
            || match self.reason {
                Reason::Due | Reason::Requested => is_previous,
                // By another clock, if the store knows better.
                Reason::Expired => is_previous && token.expires_at.is_none(),
                Reason::First | Reason::Rejected => false,
            };
        !is_refused && token.has_life_left(now)
    }

    fn rejects(&self, token: &Stored) -> bool {
        self.rejected.as_ref().is_some_and(|it| it.secret() == *token.secret)
    }

    fn too_soon(&self, token: &Stored, now: StoreTime) -> Option<Duration> {
        let until = token.fetched_at.plus(RENEWAL_INTERVAL);
        let is_repeated = self.is_renewal() && token.renewed && self.rejects(token);
        // A clock that was set back does not make it longer.
        (is_repeated && now < until).then(|| until.since(now).min(RENEWAL_INTERVAL))
    }
}

// ===== Leading =====

impl Lead {
    fn of(record: &Record, me: Holder, rules: &Rules) -> Self {
        let is_lost = record.doubt == Doubt::Lost;
        let previous = record.token.clone().map(|token| Stored {
            // What is lost is not sent: the source has nothing but what it was configured with.
            refresh_token: token.refresh_token.clone().filter(|_| !is_lost),
            ..token
        });
        Self {
            me,
            base: record.generation,
            previous,
            doubt: record.doubt,
            rotates: record.rotates(rules),
        }
    }

    /// The token to fetch the next one with.
    pub(super) fn previous(&self) -> Option<Result<AccessToken, InvalidToken>> {
        self.previous.as_ref().map(Stored::for_source)
    }

    /// What the one who fetches writes where its lease is gone because the store was emptied: its
    /// record as it was, with what is left of the lease. `mine`: the one that it started from.
    pub(super) fn reclaimed(
        &self,
        mine: &Record,
        current: Option<&Record>,
        left: Duration,
        now: StoreTime,
    ) -> Option<Record> {
        let is_gone = current.is_none_or(|current| {
            let settles = current.lease.is_some_and(|lease| lease.holder == NOBODY);
            current.generation < self.base || (current.generation == self.base && settles)
        });
        let lease = Some(Lease::of(self.me, left, now));
        (is_gone && !left.is_zero()).then(|| Record { lease, ..mine.clone() })
    }

    /// Whether a refusal means that the refresh token is lost.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.rotates && self.doubt != Doubt::None
    }

    /// What a fetched token becomes where that record is. A success wins over the lease of a
    /// successor, who started from the same generation.
    pub(super) fn succeeded(
        &self,
        current: Option<&Record>,
        token: &Stored,
        now: StoreTime,
    ) -> Storing {
        match current {
            Some(current) if current.generation <= self.base => {}
            Some(current) if current.token.as_ref() == Some(token) => return Storing::Done,
            Some(_) => return Storing::Stale,
            None => {}
        }
        Storing::Write(Record {
            // By the clock, so that a store that was emptied does not start again from below what
            // somebody still holds.
            generation: self.base.saturating_add(1).max(now.0),
            doubt: Doubt::None,
            pause_until: None,
            token: Some(token.clone()),
            lease: None,
        })
    }

    /// What a failure leaves behind where that record is: nothing, if the lease is another one's
    /// by now. It never takes anything away.
    pub(super) fn failed(
        &self,
        current: Option<&Record>,
        failure: Failure,
        now: StoreTime,
    ) -> Option<Record> {
        let current = current.filter(|current| current.is_led_by(self.me, self.base))?;
        let pause = match failure {
            Failure { retry_after: Some(wait), .. } => wait.clamp(PAUSE, MAX_PAUSE),
            Failure { is_transient: true, .. } => PAUSE,
            Failure { .. } => LONG_PAUSE,
        };
        let is_spent = self.rotates && failure.is_unknown;
        Some(Record {
            doubt: if is_spent { current.doubt.worse() } else { current.doubt },
            lease: None,
            pause_until: Some(now.plus(pause)),
            ..current.clone()
        })
    }

    /// Whether somebody else has replaced the generation that this one started from.
    pub(super) fn is_overtaken(&self, current: &Record) -> bool {
        current.generation > self.base
    }
}

impl Failure {
    /// A fetch that nobody knows the end of.
    pub(super) const UNKNOWN: Self =
        Self { is_transient: true, is_unknown: true, retry_after: None };
}

// ===== impl Record =====

impl Record {
    pub(super) fn rotates(&self, rules: &Rules) -> bool {
        rules.rotates || self.token.as_ref().is_some_and(|token| token.refresh_token.is_some())
    }

    fn is_led_by(&self, me: Holder, generation: u64) -> bool {
        self.generation == generation && self.lease.is_some_and(|lease| lease.holder == me)
    }

    /// A lease that is over, and that nobody gave back, where its holder may have sent the refresh
    /// token.
    fn abandoned(&self, rules: &Rules) -> Option<Lease> {
        self.lease.filter(|lease| lease.holder != NOBODY && self.rotates(rules))
    }

    /// The time that such a holder has besides, and whoever has something to put back: the store
    /// may have been away while it settled.
    fn grace(&self, rules: &Rules, now: StoreTime) -> Option<Lease> {
        let lease = self.lease.filter(|lease| !lease.is_grace && self.rotates(rules))?;
        Some(Lease { is_grace: true, ..Lease::of(lease.holder, GRACE, now) })
    }

    fn doubt_of_next(&self, rules: &Rules) -> Doubt {
        if self.abandoned(rules).is_some() { self.doubt.worse() } else { self.doubt }
    }
}

impl Doubt {
    fn worse(self) -> Self {
        match self {
            Self::None => Self::Once,
            Self::Once | Self::Lost => Self::Lost,
        }
    }
}

impl Lease {
    fn of(holder: Holder, length: Duration, now: StoreTime) -> Self {
        Self { holder, until: now.plus(length), length, is_grace: false }
    }

    /// One that would run for longer than it ever was is of a clock that was set back since.
    fn is_running(&self, now: StoreTime) -> bool {
        now < self.until && self.until.since(now) <= self.length
    }
}

// ===== impl Stored =====

impl Stored {
    /// A token whose fetch began at that time.
    pub(super) fn of(token: &AccessToken, fetched_at: StoreTime, renewed: bool) -> Self {
        let after = |duration: Option<Duration>| duration.map(|it| fetched_at.plus(it));
        Self {
            secret: Zeroizing::new(token.secret().to_owned()),
            refresh_token: token.refresh_token().map(|text| Zeroizing::new(text.to_owned())),
            scope: token.scope().map(str::to_owned),
            fetched_at,
            expires_at: after(token.lifetime().map(rounded_down))
                .or_else(|| token.expiry().map(StoreTime::of)),
            due_at: after(token.refresh_in()).or_else(|| token.refresh_on().map(StoreTime::of)),
            renewed,
        }
    }

    /// The token for one whose call began at that time. It carries no refresh token: that is the
    /// business of whoever fetches next.
    pub(super) fn for_caller(&self, called: StoreTime) -> Result<AccessToken, InvalidToken> {
        let mut token = AccessToken::new(self.secret.as_str())?;
        if let Some(expires_at) = self.expires_at {
            token = token.with_lifetime(not_rounded(expires_at.since(called)));
        }
        if let Some(due_at) = self.due_at {
            token = token.with_refresh_in(due_at.since(called));
        }
        Ok(match &self.scope {
            Some(scope) => token.with_scope(scope.as_str()),
            None => token,
        })
    }

    /// The token for the source that fetches the next one.
    fn for_source(&self) -> Result<AccessToken, InvalidToken> {
        let mut token = AccessToken::new(self.secret.as_str())?;
        if let Some(refresh_token) = &self.refresh_token {
            token = token.with_refresh_token(refresh_token.as_str());
        }
        if let Some(expiry) = self.expires_at.and_then(StoreTime::system_time) {
            token = token.with_expiry(expiry);
        }
        Ok(match &self.scope {
            Some(scope) => token.with_scope(scope.as_str()),
            None => token,
        })
    }

    fn has_life_left(&self, now: StoreTime) -> bool {
        let Some(expires_at) = self.expires_at else { return true };
        let life = expires_at.since(self.fetched_at);
        expires_at.since(now) > MIN_LEFT.min(life / 10)
    }
}

/// A service that counts in whole seconds may have rounded up.
fn rounded_down(lifetime: Duration) -> Duration {
    if lifetime.subsec_nanos() != 0 {
        return lifetime;
    }
    lifetime.saturating_sub(Duration::from_secs(1)).max(lifetime / 2)
}

/// So that the cache does not take what is left for a number that a service has rounded.
fn not_rounded(lifetime: Duration) -> Duration {
    if millis(lifetime) % 1000 == 0 {
        lifetime.saturating_sub(Duration::from_millis(1))
    } else {
        lifetime
    }
}

#[cfg(test)]
mod tests;
