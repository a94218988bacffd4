//! Every decision about a record, without I/O: given a record and the time by the store's clock,
//! what a process does, and what it writes. The module's documentation describes the states.

use std::time::Duration;

use zeroize::Zeroizing;

use super::{
    record::{Doubt, Holder, Lease, MAX_SCOPE, NOBODY, Record, Stored},
    time::{StoreTime, millis},
};
use crate::{
    source::{Reason, TokenRequest},
    token::{AccessToken, InvalidToken},
};

/// How long no process fetches after a transient failure.
const PAUSE: Duration = Duration::from_secs(1);
/// The same after a permanent failure: other processes may be configured differently.
const LONG_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause that a token service can ask for.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// The shortest time between two renewals of the fleet.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(5);
/// How long after the lease of a holder that may have spent the refresh token no other process
/// tries: the store may have been unavailable for all of the lease.
const GRACE: Duration = Duration::from_secs(3);
/// A token that expires sooner is not handed out.
const MIN_LEFT: Duration = Duration::from_secs(10);

/// The rules that a fleet follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// How long no other process fetches while one does.
    pub(super) lease: Duration,
    /// Whether a fetch spends the refresh token.
    pub(super) rotates: bool,
    /// How long processes with a newer record have to put it back into an emptied store, before
    /// the refresh token is sent. `None`: the store does not lose records.
    pub(super) settle: Option<Duration>,
}

/// The token that a caller wants.
pub(super) struct Want {
    reason: Reason,
    previous: Option<AccessToken>,
    rejected: Option<AccessToken>,
}

/// The next step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Hand out this token.
    Have(Stored),
    /// Another process fetches, for so long at most: look again when the record has changed.
    Wait(Duration),
    /// Fetch, and store the result.
    Lead(Lead),
    /// Replace the record by this one, unless it has changed meanwhile. Then ask again.
    Write(Record),
    /// No process fetches for so long, because a fetch has failed.
    Paused(Duration),
    /// No process renews for so long.
    TooSoon(Duration),
}

/// The state of a leader: the process that fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lead {
    me: Holder,
    /// The generation that the fetched one replaces.
    base: u64,
    /// The token of that generation, with the refresh token to send.
    previous: Option<Stored>,
    doubt: Doubt,
    pub(super) rotates: bool,
}

/// How a fetch failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) is_transient: bool,
    /// Whether it is unknown if the refresh token was spent.
    pub(super) is_unknown: bool,
    pub(super) retry_after: Option<Duration>,
}

/// The next step with a fetched token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Storing {
    /// Replace the record by this one.
    Write(Record),
    /// The token is stored: the answer to the write was lost.
    Done,
    /// Another process has replaced the same generation, or a later one.
    Stale,
}

// ===== Asking =====

/// What a process does that wants a token and sees that record. `held`: the newest record that it
/// has seen. `me`: identifies this call.
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
    if let Some(left) = record.pause(now) {
        return Step::Paused(left);
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

/// What a process writes if it holds a newer record than the store.
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
        // No process leads until those with a still newer record, and a current leader, have had
        // time to write.
        let settle = rules.settle.filter(|_| rotates);
        Record {
            lease: settle.map(|settle| Lease::of(NOBODY, settle, now)),
            pause_until: None,
            ..held.clone()
        }
    })
}

/// What a process writes that does not know whether it got a lease, and so does not lead.
/// `is_unchanged`: the record is still the one that the process wanted to replace.
pub(super) fn released(current: Option<&Record>, me: Holder, is_unchanged: bool) -> Option<Record> {
    let is_mine = current.is_some_and(|it| it.lease.is_some_and(|lease| lease.holder == me));
    let record = current.cloned().unwrap_or_default();
    if is_mine {
        return Some(Record { lease: None, ..record });
    }
    // Writing the same again changes the version, so that a write still in flight fails.
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
                // The store's clock may show that it is already due.
                Reason::Expired => is_previous && token.expires_at.is_none(),
                Reason::First | Reason::Rejected => false,
            };
        !is_refused && token.has_life_left(now)
    }

    fn rejects(&self, token: &Stored) -> bool {
        self.rejected.as_ref().is_some_and(|it| it.secret() == *token.secret)
    }

    fn too_soon(&self, token: &Stored, now: StoreTime) -> Option<Duration> {
        let left = token.fetched_at.plus(RENEWAL_INTERVAL).since(now);
        let is_repeated = self.is_renewal() && token.renewed && self.rejects(token);
        // A clock that was set back does not extend it.
        (is_repeated && !left.is_zero() && left <= RENEWAL_INTERVAL).then_some(left)
    }
}

// ===== Leading =====

impl Lead {
    fn of(record: &Record, me: Holder, rules: &Rules) -> Self {
        let is_lost = record.doubt == Doubt::Lost;
        let previous = record.token.clone().map(|token| Stored {
            // A lost refresh token is not sent: the source uses its configured credentials.
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

    /// The token that the source fetches the next one with.
    pub(super) fn previous(&self) -> Option<Result<AccessToken, InvalidToken>> {
        self.previous.as_ref().map(Stored::for_source)
    }

    /// What the leader writes if its lease is gone because the store was emptied: its record, with
    /// the rest of the lease. `mine`: the record that it started from.
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

    /// The next step with a fetched token if the store has that record. A success wins over the
    /// lease of a successor that started from the same generation.
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
            // At least the time, so that an emptied store does not start below a generation that a
            // process still holds.
            generation: self.base.saturating_add(1).max(now.0),
            doubt: Doubt::None,
            pause_until: None,
            token: Some(token.clone()),
            lease: None,
        })
    }

    /// The record that a failure leaves behind: none, if another process has the lease by now. It
    /// never deletes anything.
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

    /// Whether another process has replaced the generation that this leader started from.
    pub(super) fn is_overtaken(&self, current: &Record) -> bool {
        current.generation > self.base
    }
}

impl Failure {
    /// A fetch with an unknown outcome.
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

    /// The rest of a pause. One that is longer than any was written before the clock was set back.
    fn pause(&self, now: StoreTime) -> Option<Duration> {
        let left = self.pause_until?.since(now);
        (!left.is_zero() && left <= MAX_PAUSE).then_some(left)
    }

    /// A lease that has ended without being given back, and whose holder may have sent the refresh
    /// token.
    fn abandoned(&self, rules: &Rules) -> Option<Lease> {
        self.lease.filter(|lease| lease.holder != NOBODY && self.rotates(rules))
    }

    /// The grace period of such a holder, and of a process with a record to put back: the store
    /// may have been unavailable while it settled.
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

    /// A lease with more time left than its length was written before the clock was set back.
    fn is_running(&self, now: StoreTime) -> bool {
        now < self.until && self.until.since(now) <= self.length
    }
}

// ===== impl Stored =====

impl Stored {
    /// Makes the record of a token whose fetch began at that time.
    pub(super) fn of(token: &AccessToken, fetched_at: StoreTime, renewed: bool) -> Self {
        let after = |duration: Option<Duration>| duration.map(|it| fetched_at.plus(it));
        Self {
            secret: Zeroizing::new(token.secret().to_owned()),
            refresh_token: token.refresh_token().map(|text| Zeroizing::new(text.to_owned())),
            scope: token.scope().filter(|scope| scope.len() <= MAX_SCOPE).map(str::to_owned),
            fetched_at,
            expires_at: after(token.lifetime().map(rounded_down))
                .or_else(|| token.expiry().map(StoreTime::of)),
            due_at: after(token.refresh_in()).or_else(|| token.refresh_on().map(StoreTime::of)),
            renewed,
        }
    }

    /// The token for a caller whose call began at that time. It carries no refresh token, which
    /// only the next leader needs.
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

    /// The token for the source, with which it fetches the next one.
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
        // Before the fetch: the clock was set back, and nothing tells how old the token is.
        now >= self.fetched_at && expires_at.since(now) > MIN_LEFT.min(life / 10)
    }
}

/// The service may have rounded up to whole seconds.
fn rounded_down(lifetime: Duration) -> Duration {
    if lifetime.subsec_nanos() != 0 {
        return lifetime;
    }
    lifetime.saturating_sub(Duration::from_secs(1)).max(lifetime / 2)
}

/// Adds a fraction, so that the cache does not take the rest for a number of seconds that a service
/// has rounded.
fn not_rounded(lifetime: Duration) -> Duration {
    if millis(lifetime) % 1000 == 0 {
        lifetime.saturating_sub(Duration::from_millis(1))
    } else {
        lifetime
    }
}

#[cfg(test)]
mod tests;
