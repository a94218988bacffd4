//! What the cache knows and decides: every rule about lifetimes, flights, failures and rejections,
//! as methods of one plain struct that gets `now` as an argument and reads no clock.
//!
//! ```text
//! the token    none ──kept──▶ fresh ──▶ due ──▶ expired          (by time alone)
//!                             a rejection makes it suspect; only a newer token takes its place
//! the flight   none ──started──▶ under way ──finished / lost──▶ none
//! the source   ready ──finished with an error──▶ cooling down ──by time, or recovered──▶ ready
//! an origin    see `origins`
//! wanted       nothing ──warm_up──▶ a first token ──kept──▶ nothing;  kept warm: always a token
//! ```
//!
//! Every caller may start a flight, and so may the keeper where the cache wants a token for no
//! caller, but only if there is no flight. Only the flight in progress may finish; one that was
//! given up changes nothing. A token leaves only because a newer usable one has arrived.
//!
//! Each transition returns its answer and its [`Effects`]: nothing else leaves this struct.

mod parts;

use std::sync::Arc;

use tokio::time::Instant;

pub(super) use self::parts::Wanted;
use self::parts::{Current, Fetched, Flight};
use super::{
    answer::{Answer, Arrival, Grant, RejectedBy},
    cooldown::Cooldown,
    effects::{Effects, Event, Finished, Start},
    failures::Failures,
    names::FlightId,
    origins::{BackedOff, Origins},
    policy::{RefreshPolicy, WARM_INTERVAL},
    rejection::{Demand, Rejection},
    status::Status,
};
use crate::{
    clock::later::Later,
    error::{CacheError, TokenError},
    origin::Origin,
    source::{Reason, TokenRequest},
    token::AccessToken,
};

#[derive(Debug, Default)]
pub(super) struct State {
    policy: Arc<RefreshPolicy>,
    /// Counts the changes after which an earlier answer no longer holds.
    version: u64,
    current: Option<Current>,
    /// The last token that was fetched, kept or not: it carries the newest refresh token.
    latest: Option<Fetched>,
    /// What is seldom there has a box, so that a cache at rest is small.
    flight: Option<Box<Flight>>,
    flights: FlightId,
    failures: Failures,
    /// How often the source was called.
    attempts: u64,
    cooldown: Option<Box<Cooldown>>,
    /// Before this time no flight starts for which no caller waits.
    next_background: Option<Instant>,
    wanted: Wanted,
    origins: Origins,
    /// Whether the token was removed for good.
    is_forgotten: bool,
}

// ===== A caller wants a token =====

impl State {
    pub(super) fn new(policy: Arc<RefreshPolicy>) -> Self {
        let wanted = if policy.keep_warm { Wanted::Always } else { Wanted::Nothing };
        Self { policy, wanted, ..Self::default() }
    }

    /// A caller wants to send a request to this origin.
    pub(super) fn ask(&mut self, origin: Option<&Origin>, now: Instant) -> (Answer, Effects) {
        if let Some(forgotten) = self.forgotten() {
            return forgotten;
        }
        let mut effects = self.give_up_lost(now);
        if self.may_use_current(origin, now) {
            effects.start = self.refresh_if_due(now);
            if let Some(grant) = self.grant(origin, now) {
                return (Answer::Token(grant), effects);
            }
        }
        let answer = match (&self.flight, self.cooling_down(now)) {
            (Some(flight), _) => Answer::Wait(flight.lost_at),
            (None, Some(error)) => Answer::Error(error),
            (None, None) => self.wait_for_new_flight(self.reason(), None, now, &mut effects),
        };
        (answer, effects)
    }

    /// A caller wants a new token, although the current one may be usable. No other caller waits:
    /// this is a refresh that a caller causes, not the time.
    pub(super) fn refresh(&mut self, now: Instant) -> (Answer, Effects) {
        if let Some(forgotten) = self.forgotten() {
            return forgotten;
        }
        let mut effects = self.give_up_lost(now);
        let is_too_soon = self.next_background.is_some_and(|next| next > now);
        let current = if is_too_soon { self.grant(None, now) } else { None };
        let answer = match (&self.flight, self.cooling_down(now), current) {
            (Some(flight), ..) => Answer::Wait(flight.lost_at),
            (None, Some(error), _) => Answer::Error(error),
            (None, None, Some(current)) => Answer::Token(current),
            (None, None, None) => {
                self.next_background = Some(now.later(self.policy.background_interval));
                self.wait_for_new_flight(Reason::Requested, None, now, &mut effects)
            }
        };
        (answer, effects)
    }

    /// An API has rejected a token.
    pub(super) fn reject(
        &mut self,
        rejection: &Rejection,
        by: RejectedBy,
        now: Instant,
    ) -> (Answer, Effects) {
        if let Some(forgotten) = self.forgotten() {
            return forgotten;
        }
        let mut effects = self.give_up_lost(now);
        let (origin, demand) = (rejection.origin.as_ref(), rejection.demand());
        let newer = self.usable(now).filter(|current| !current.token().is_same(&rejection.token));
        let helps = newer.is_some_and(|newer| demand.is_none() || newer.fetched.demand == demand);
        if newer.is_none() {
            self.suspect(rejection, by, now, &mut effects);
        } else if helps && self.may_use_current(origin, now) {
            if let Some(grant) = self.grant(origin, now) {
                return (Answer::Token(grant), effects);
            }
        }
        if let Some(answer) = self.join(rejection, demand.as_ref(), now) {
            return (answer, effects);
        }
        if let Err(error) = self.may_renew(origin, demand.as_ref(), by, now) {
            return (Answer::Error(error), effects);
        }
        if by != RejectedBy::Waiter {
            self.next_background = Some(now.later(self.policy.background_interval));
        }
        self.origins.renewing(origin, demand.as_ref(), now);
        let answer = self.wait_for_new_flight(Reason::Rejected, Some(rejection), now, &mut effects);
        self.origins.awaits(origin, self.flights, now);
        (answer, effects)
    }

    /// A request with this token was accepted there.
    pub(super) fn accepted(
        &mut self,
        token: &AccessToken,
        origin: Option<&Origin>,
        now: Instant,
    ) -> Effects {
        let mut effects = Effects::default();
        if let Some(fetched) = self.known(token) {
            let id = fetched.id;
            // One that was not kept takes the current one's proof.
            let current = self.current.as_ref().map(|current| current.fetched.id);
            let trusted = |current| origin.is_some_and(|it| self.origins.is_trusted(it, current));
            let is_replaced = current.is_some_and(|it| it != id && trusted(it));
            self.version = self.version.wrapping_add(is_replaced.into());
            let told = self.origins.accepted(origin, id, now);
            effects.events.extend(told.into_iter().map(Event::AcceptedAgain));
        }
        effects
    }

    fn refresh_if_due(&mut self, now: Instant) -> Option<Start> {
        let due = self.current.as_ref()?.dates?.due;
        (due <= now).then(|| self.start_in_background(Reason::Due, now))?
    }

    fn start_in_background(&mut self, reason: Reason, now: Instant) -> Option<Start> {
        if self.flight.is_some() || self.background_from(now, now) > now {
            return None;
        }
        self.next_background = Some(now.later(self.policy.background_interval));
        Some(self.start(reason, None, now))
    }

    /// The first moment from `wanted` on at which a flight may start for which no caller waits.
    fn background_from(&self, wanted: Instant, now: Instant) -> Instant {
        let spaced = self.next_background.unwrap_or(wanted);
        let cool = self.cooldown_until(now).unwrap_or(wanted);
        wanted.max(spaced).max(cool)
    }

    /// The flight in progress, if there is one, as the answer to a rejection.
    fn join(
        &mut self,
        rejection: &Rejection,
        demand: Option<&Demand>,
        now: Instant,
    ) -> Option<Answer> {
        let is_current =
            self.current.as_ref().is_some_and(|current| current.token().is_same(&rejection.token));
        let flight = self.flight.as_mut()?;
        if is_current && !flight.renews {
            flight.renews = true;
            self.version = self.version.wrapping_add(1);
        }
        if demand.is_some() && flight.demand.as_ref() != demand {
            return Some(Answer::WaitAndAskAgain(flight.lost_at));
        }
        self.origins.awaits(rejection.origin.as_ref(), flight.id, now);
        Some(Answer::Wait(flight.lost_at))
    }

    fn may_renew(
        &self,
        origin: Option<&Origin>,
        demand: Option<&Demand>,
        by: RejectedBy,
        now: Instant,
    ) -> Result<(), TokenError> {
        if let Some(error) = self.cooling_down(now) {
            return Err(error);
        }
        self.origins.may_renew(origin, demand, now)?;
        if by != RejectedBy::Waiter && self.next_background.is_some_and(|next| next > now) {
            return Err(CacheError::TooSoon.into());
        }
        Ok(())
    }

    fn wait_for_new_flight(
        &mut self,
        reason: Reason,
        rejection: Option<&Rejection>,
        now: Instant,
        effects: &mut Effects,
    ) -> Answer {
        effects.start = Some(self.start(reason, rejection, now));
        Answer::Wait(now.later(self.policy.flight_limit()))
    }

    fn start(&mut self, reason: Reason, rejection: Option<&Rejection>, now: Instant) -> Start {
        let rejected = rejection.map(|rejection| rejection.token.clone());
        let challenge = rejection.and_then(|rejection| rejection.challenge.clone());
        self.version = self.version.wrapping_add(1);
        self.flights = self.flights.wrapping_add(1);
        self.flight = Some(Box::new(Flight {
            id: self.flights,
            reason,
            started: now,
            rejected: rejected.clone(),
            demand: rejection.and_then(Rejection::demand),
            renews: rejected.is_some(),
            lost_at: now.later(self.policy.flight_limit()),
        }));
        let previous = self.latest.as_ref().map(|latest| latest.token.clone());
        let request = TokenRequest::from_parts(reason, previous, rejected, challenge);
        Start { id: self.flights, request }
    }

    /// Marks the current token as suspect if it is the rejected one. An origin that rejects a token
    /// which is unproven there backs off, once for each token.
    fn suspect(
        &mut self,
        rejection: &Rejection,
        by: RejectedBy,
        now: Instant,
        effects: &mut Effects,
    ) {
        let origin = rejection.origin.as_ref();
        let rejected = |fetched: &Fetched| fetched.token.is_same(&rejection.token);
        if let Some(current) = self.current.as_mut().filter(|it| rejected(&it.fetched)) {
            self.version = self.version.wrapping_add(u64::from(!current.suspect));
            current.suspect = true;
        }
        let Some(fetched) = self.known(&rejection.token) else { return };
        let id = fetched.id;
        let on_trial = fetched.renewed || self.origins.has_backoff(origin);
        if on_trial && !self.origins.is_proven(origin, id) {
            let asked_for = fetched.demand.clone();
            let backed_off = self.origins.back_off(origin, id, asked_for, now);
            self.tell_backoffs(backed_off, effects);
        }
        if by == RejectedBy::Caller && self.origins.distrust(origin, id, now) {
            self.version = self.version.wrapping_add(1);
        }
    }

    /// Reports the backoffs. The state now wants to know of acceptances, so earlier grants no
    /// longer hold.
    fn tell_backoffs(
        &mut self,
        backed_off: impl IntoIterator<Item = BackedOff>,
        effects: &mut Effects,
    ) {
        for backed_off in backed_off {
            self.version = self.version.wrapping_add(1);
            effects.events.push(Event::BackedOff(backed_off));
        }
    }
}

// ===== Keeping the token warm =====

impl State {
    pub(super) fn want(&mut self, wanted: Wanted, now: Instant) {
        let is_here = wanted == Wanted::First && self.usable(now).is_some();
        if self.wanted != Wanted::Always && !is_here && !self.is_forgotten {
            self.wanted = wanted;
        }
    }

    /// Whether flights start for which no caller asks.
    pub(super) fn is_kept_warm(&self) -> bool {
        self.wanted != Wanted::Nothing
    }

    /// Starts a flight for which no caller asks, if one is due.
    pub(super) fn keep_warm(&mut self, now: Instant) -> Effects {
        let mut effects = self.give_up_lost(now);
        if !self.is_kept_warm() {
            return effects;
        }
        effects.start = if self.usable(now).is_some() {
            self.refresh_if_due(now)
        } else {
            self.start_in_background(self.reason(), now)
        };
        effects
    }

    /// When to [`keep_warm`](Self::keep_warm) again; `None` until something changes.
    pub(super) fn warm_at(&self, now: Instant) -> Option<Instant> {
        if !self.is_kept_warm() {
            return None;
        }
        if let Some(flight) = &self.flight {
            return Some(flight.lost_at);
        }
        let due = match self.usable(now) {
            // With a small due share a token expires before it is due.
            Some(current) => current.dates.map(|dates| dates.due.min(dates.expired))?,
            None => now,
        };
        // Sources whose tokens are due at once must not turn this into a loop.
        let spaced = self.next_background.map_or(now, |next| {
            next.later(WARM_INTERVAL.saturating_sub(self.policy.background_interval))
        });
        let at = self.background_from(due, now).max(spaced);
        Some(self.recovery_check_at(now).map_or(at, |check| check.min(at)))
    }
}

// ===== The end of a flight =====

impl State {
    /// A flight calls the source, perhaps not for the first time. Returns whether it may: one that
    /// was given up has resumed too late.
    pub(super) fn asks_source(&mut self, id: FlightId) -> bool {
        let may_ask = self.flight() == Some(id);
        self.attempts = self.attempts.saturating_add(may_ask.into());
        may_ask
    }

    /// The flight has ended by itself. Returns what its waiters get; `None` if it was given up
    /// before.
    pub(super) fn finished(
        &mut self,
        id: FlightId,
        outcome: Result<Arrival, TokenError>,
        now: Instant,
        random: f64,
    ) -> (Option<Result<AccessToken, TokenError>>, Effects) {
        let mut effects = Effects::default();
        let Some(flight) = self.flight.take_if(|flight| flight.id == id) else {
            effects.spent.extend(outcome.err());
            return (None, effects);
        };
        self.version = self.version.wrapping_add(1);
        let outcome = match outcome {
            Ok(arrival) => self.succeeded(&flight, &arrival, now, random, &mut effects),
            Err(error) => {
                self.failed(&flight, &error, now, random, &mut effects);
                Err(error)
            }
        };
        effects.events.push(self.event(&flight, outcome.as_ref().err(), now));
        if outcome.is_ok() {
            effects.events.extend(self.failures.end(now).map(Event::Recovered));
        }
        (Some(outcome), effects)
    }

    /// The flight will never finish: it panicked, or its runtime is gone. There is no cooldown,
    /// because the source has not answered; the next caller starts a new flight.
    pub(super) fn lost(&mut self, id: FlightId, why: &CacheError, now: Instant) -> (bool, Effects) {
        let mut effects = Effects::default();
        let Some(flight) = self.flight.take_if(|flight| flight.id == id) else {
            return (false, effects);
        };
        self.version = self.version.wrapping_add(1);
        let error = TokenError::from(why.clone());
        effects.events.push(self.event(&flight, Some(&error), now));
        effects.spent.extend(self.failures.add(error, now));
        (true, effects)
    }

    /// When the source may be asked whether it has recovered.
    fn recovery_check_at(&self, now: Instant) -> Option<Instant> {
        self.cooldown.as_ref()?.recovery_check_at(self.usable(now).is_some(), now)
    }

    /// The cooldown for which the source may be asked now whether it has recovered.
    pub(super) fn may_check_recovery(&mut self, now: Instant) -> Option<FlightId> {
        let has_token = self.usable(now).is_some();
        let cooldown = self.cooldown.as_mut()?.may_check_recovery(has_token, now)?;
        // Until the next check, callers need not ask.
        self.version = self.version.wrapping_add(1);
        Some(cooldown)
    }

    /// The source's configuration has changed since this flight failed.
    pub(super) fn recovered(&mut self, from: FlightId) {
        if let Some(cooldown) = &mut self.cooldown {
            if cooldown.recoverable() == Some(from) {
                cooldown.end_early();
                self.version = self.version.wrapping_add(1);
            }
        }
    }

    fn give_up_lost(&mut self, now: Instant) -> Effects {
        let lost = self.flight.as_ref().filter(|flight| flight.lost_at <= now);
        match lost.map(|flight| flight.id) {
            Some(id) => self.lost(id, &CacheError::FlightLost, now).1,
            None => Effects::default(),
        }
    }

    fn event(&self, flight: &Flight, error: Option<&TokenError>, now: Instant) -> Event {
        let until = self.cooldown_until(now);
        Event::Finished(Finished {
            reason: flight.reason,
            took: now.saturating_duration_since(flight.started),
            error: error.cloned(),
            cooldown: until.map(|until| until.saturating_duration_since(now)),
        })
    }

    fn succeeded(
        &mut self,
        flight: &Flight,
        arrival: &Arrival,
        now: Instant,
        random: f64,
        effects: &mut Effects,
    ) -> Result<AccessToken, TokenError> {
        self.cooldown = None;
        effects.spent.extend(self.failures.answered());
        let fetched = self.recognised(flight, &arrival.token);
        let rejected = flight.rejected.as_ref();
        let is_same = rejected.is_some_and(|rejected| rejected.is_same(&arrival.token));
        let (id, token) = (fetched.id, arrival.token.clone());
        self.keep(fetched, arrival, now, random);
        if !is_same {
            return Ok(token);
        }
        let backed_off = self.origins.back_off_together(flight.id, id, now);
        self.tell_backoffs(backed_off, effects);
        Err(CacheError::SameToken.into())
    }

    /// The token with what is known of it, which stays known if a source returns the token again.
    fn recognised(&self, flight: &Flight, token: &AccessToken) -> Fetched {
        let known = self.known(token).cloned();
        let id = known.as_ref().map_or(flight.id, |known| known.id);
        let renewed = known.as_ref().map_or(flight.renews, |known| known.renewed);
        let demand = flight.demand.clone().or_else(|| known?.demand);
        Fetched { id, token: token.clone(), renewed, demand }
    }

    /// Makes the token the current one, unless it has expired on arrival.
    fn keep(&mut self, fetched: Fetched, arrival: &Arrival, now: Instant, random: f64) {
        self.latest = Some(fetched.clone());
        let life = self.policy.life(&arrival.token, arrival.called_wall);
        let said = RefreshPolicy::said_due(&arrival.token, arrival.called_wall);
        let mut dates = life.map(|life| self.policy.dates(arrival.called, life, said, random));
        if dates.is_some_and(|dates| dates.expired <= now) {
            return;
        }
        if self.wanted == Wanted::First {
            self.wanted = Wanted::Nothing;
        }
        let before = self.current.take();
        if let (Some(dates), Some(before)) = (&mut dates, &before) {
            dates.wait_if_nothing_was_gained(before.dates, now);
        }
        let suspect =
            before.is_some_and(|before| before.suspect && before.fetched.id == fetched.id);
        self.current = Some(Current { fetched, dates, suspect });
    }

    fn failed(
        &mut self,
        flight: &Flight,
        error: &TokenError,
        now: Instant,
        random: f64,
        effects: &mut Effects,
    ) {
        let before = self.cooldown.as_deref();
        let cooldown = Cooldown::after((flight.id, error), before, &self.policy, now, random);
        self.cooldown = Some(Box::new(cooldown));
        effects.spent.extend(self.failures.add(error.clone(), now));
    }
}

// ===== The token is removed =====

impl State {
    /// Removes the token for good. The flight in progress is given up, and no other starts.
    #[cfg(feature = "keyed")]
    pub(super) fn forget(&mut self, now: Instant) -> Effects {
        let under_way = self.flight();
        let lost = under_way.map(|id| self.lost(id, &CacheError::Forgotten, now));
        self.version = self.version.wrapping_add(1);
        (self.current, self.latest, self.is_forgotten) = (None, None, true);
        self.wanted = Wanted::Nothing;
        lost.map(|(_, effects)| effects).unwrap_or_default()
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.is_forgotten
    }

    fn forgotten(&self) -> Option<(Answer, Effects)> {
        let answer = || (Answer::Error(CacheError::Forgotten.into()), Effects::default());
        self.is_forgotten.then(answer)
    }
}

// ===== The current state =====

impl State {
    /// The token, suspect or not, if it has not expired.
    pub(super) fn token(&self, now: Instant) -> Option<&AccessToken> {
        self.usable(now).map(Current::token)
    }

    /// The flight in progress.
    pub(super) fn flight(&self) -> Option<FlightId> {
        self.flight.as_ref().map(|flight| flight.id)
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// What a request for this origin may use, and for how long.
    pub(super) fn granted(&self, origin: Option<&Origin>, now: Instant) -> Option<Grant> {
        if self.may_use_current(origin, now) { self.grant(origin, now) } else { None }
    }

    pub(super) fn status(&self, now: Instant) -> Status {
        let current = self.usable(now);
        let dates = current.and_then(|current| current.dates);
        Status {
            name: None,
            at: now,
            has_token: current.is_some(),
            suspect: current.is_some_and(|current| current.suspect),
            due: dates.map(|dates| dates.due),
            expiry: dates.map(|dates| dates.expired),
            fetching: self.flight.is_some(),
            cooldown_until: self.cooldown_until(now).filter(|until| *until > now),
            last_error: self.failures.last().cloned(),
            flights: self.flights,
            failures: self.failures.count(),
            attempts: self.attempts,
        }
    }

    fn grant(&self, origin: Option<&Origin>, now: Instant) -> Option<Grant> {
        let current = self.usable(now)?;
        let ask_again = match (&self.flight, current.dates) {
            (Some(flight), _) => Some(flight.lost_at),
            (None, Some(dates)) => {
                let from = self.background_from(dates.due, now);
                let check = self.recovery_check_at(now).map(|check| check.max(dates.due));
                Some(check.map_or(from, |check| check.min(from)))
            }
            (None, None) => None,
        };
        let expired = current.dates.map(|dates| dates.expired);
        Some(Grant {
            token: current.token().clone(),
            version: self.version,
            until: ask_again.into_iter().chain(expired).min(),
            expired,
            suspect: current.suspect,
            watched: self.origins.is_news(origin, current.fetched.id),
        })
    }

    /// While a rejected token is being replaced, it is used only where it is proven.
    fn may_use_current(&self, origin: Option<&Origin>, now: Instant) -> bool {
        let Some(current) = self.usable(now) else { return false };
        !self.is_renewing()
            || origin.is_some_and(|it| self.origins.is_trusted(it, current.fetched.id))
    }

    fn usable(&self, now: Instant) -> Option<&Current> {
        self.current.as_ref().filter(|current| current.is_usable(now))
    }

    /// The current token or the last one that was fetched, if this is it.
    fn known(&self, token: &AccessToken) -> Option<&Fetched> {
        let current = self.current.as_ref().map(|current| &current.fetched);
        current.into_iter().chain(&self.latest).find(|fetched| fetched.token.is_same(token))
    }

    /// Whether the flight in progress is to replace the current token because that was rejected.
    fn is_renewing(&self) -> bool {
        let suspect = self.current.as_ref().is_some_and(|current| current.suspect);
        suspect && self.flight.as_ref().is_some_and(|flight| flight.renews)
    }

    fn reason(&self) -> Reason {
        if self.latest.is_some() { Reason::Expired } else { Reason::First }
    }

    fn cooldown_until(&self, now: Instant) -> Option<Instant> {
        let cooldown = self.cooldown.as_ref()?;
        Some(cooldown.until(self.usable(now).is_some()))
    }

    /// The error that caused the cooldown, if the source cools down.
    fn cooling_down(&self, now: Instant) -> Option<TokenError> {
        self.cooldown_until(now).filter(|until| *until > now)?;
        self.failures.last().cloned()
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
