//! What the cache knows and decides: every rule about lifetime, flights, failures and
//! rejections, as methods of one plain struct that is given `now` and asks no clock.
//!
//! ```text
//! the token    none ──kept──▶ fresh ──▶ due ──▶ expired          (by time alone)
//!                             a rejection makes it suspect; only a newer token takes its place
//! the flight   none ──take_off──▶ under way ──landed / lost──▶ none
//! the source   awake ──landed with an error──▶ resting ──by time, or recovered──▶ awake
//! an origin    at ease ──strike──▶ held up ──by time──▶ may renew ──accepted──▶ at ease
//! ```
//!
//! Anybody who asks may start a flight, but only where there is none. Only the flight that is
//! under way may land; one that was given up changes nothing. A token leaves only because a
//! newer usable one has arrived.

use std::time::SystemTime;

use tokio::time::Instant;

use super::{
    news::{Ended, News},
    policy::{Dates, RefreshPolicy},
    ready::Ready,
    rejection::Rejection,
    rest::Rest,
    status::Status,
    strikes::Strikes,
};
use crate::{
    error::{CacheError, TokenError},
    origin::Origin,
    source::{Reason, TokenRequest},
    token::AccessToken,
};

/// How many origins are remembered to have accepted the current token.
const MAX_PROVEN: usize = 64;

/// Names a flight. A number is used once in the life of a cache.
pub(super) type FlightId = u64;

#[derive(Debug, Default)]
pub(super) struct State {
    policy: RefreshPolicy,
    held: Option<Held>,
    /// The last token that was fetched, kept or not: it carries the newest refresh token.
    previous: Option<AccessToken>,
    flight: Option<Flight>,
    flights: FlightId,
    failures: u64,
    rest: Option<Rest>,
    /// Why the last flight failed, until one succeeds.
    last_error: Option<TokenError>,
    /// Before this no flight starts that nobody waits for.
    next_background: Option<Instant>,
    /// Before this the source is not asked whether it has recovered.
    next_probe: Option<Instant>,
    strikes: Strikes,
    pub(super) news: News,
}

/// The current token. Without dates it lives until it is rejected.
#[derive(Debug)]
struct Held {
    token: AccessToken,
    brought_by: FlightId,
    dates: Option<Dates>,
    /// Rejected somewhere.
    suspect: bool,
    /// Brought by a renewal: unproven at an origin until accepted there.
    renewed: bool,
    proven: Vec<Option<Origin>>,
}

#[derive(Debug)]
struct Flight {
    id: FlightId,
    reason: Reason,
    started: Instant,
    /// What is to be replaced, if the flight was started for that.
    rejected: Option<AccessToken>,
    /// Whether a rejection of the current token waits for it: then all askers do.
    renews: bool,
    /// Where the rejections came from that it is to cure.
    origins: Vec<Option<Origin>>,
    lost_at: Instant,
}

/// What somebody who wants a token gets.
#[derive(Debug)]
pub(super) enum Answer {
    /// This token.
    Token(AccessToken),
    /// What the flight under way brings; it counts as lost at this time.
    Wait(Instant),
    /// Nothing, and why.
    Error(TokenError),
}

/// A flight that the shell has to start now.
#[derive(Debug)]
pub(super) struct Takeoff {
    pub(super) id: FlightId,
    pub(super) request: TokenRequest,
}

/// A token, and when the fetch that brought it was called, by both clocks.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) token: AccessToken,
    pub(super) called: Instant,
    pub(super) called_wall: SystemTime,
}

// ===== Whoever wants a token =====

impl State {
    pub(super) fn new(policy: RefreshPolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Somebody wants to send a request.
    pub(super) fn ask(&mut self, now: Instant) -> (Answer, Option<Takeoff>) {
        self.give_up_lost(now);
        let current = self.current(now).filter(|_| !self.is_renewing()).cloned();
        if let Some(token) = current {
            return (Answer::Token(token), self.refresh_due(now));
        }
        if let Some(flight) = &self.flight {
            return (Answer::Wait(flight.lost_at), None);
        }
        if let Some(error) = self.resting(now) {
            return (Answer::Error(error), None);
        }
        self.wait_for_new_flight(self.reason(), None, now)
    }

    /// An API has rejected a token. `waits`: whether the renewal is waited for.
    pub(super) fn reject(
        &mut self,
        rejection: &Rejection,
        waits: bool,
        now: Instant,
    ) -> (Answer, Option<Takeoff>) {
        self.give_up_lost(now);
        if let Some(newer) = self.newer_than(&rejection.token, now) {
            return match &self.flight {
                Some(flight) if self.is_renewing() => (Answer::Wait(flight.lost_at), None),
                _ => (Answer::Token(newer), None),
            };
        }
        self.suspect(rejection, now);
        if let Some(flight) = &mut self.flight {
            flight.renews = true;
            flight.add_origin(rejection.origin.as_ref());
            return (Answer::Wait(flight.lost_at), None);
        }
        if let Err(error) = self.may_renew(rejection.origin.as_ref(), waits, now) {
            return (Answer::Error(error), None);
        }
        if !waits {
            self.next_background = Some(now + self.policy.background_interval);
        }
        self.wait_for_new_flight(Reason::Rejected, Some(rejection), now)
    }

    /// A request with this token was accepted there.
    pub(super) fn accepted(&mut self, token: &AccessToken, origin: Option<&Origin>) {
        let Some(held) = self.held.as_mut().filter(|held| held.token.is_same(token)) else {
            return;
        };
        if !held.is_proven(origin) {
            if held.proven.len() == MAX_PROVEN {
                held.proven.remove(0);
            }
            held.proven.push(origin.cloned());
        }
        self.strikes.clear(origin);
    }

    /// Nobody asks, but the policy wants a token to be there: starts a flight if one is due.
    pub(super) fn tend(&mut self, now: Instant) -> Option<Takeoff> {
        self.give_up_lost(now);
        if self.usable(now).is_some() {
            return self.refresh_due(now);
        }
        self.background_flight(self.reason(), now)
    }

    /// When to [`tend`](Self::tend) again. While a flight is under way: never, for its landing
    /// will tell.
    pub(super) fn tend_at(&self, now: Instant) -> Option<Instant> {
        if !self.policy.keep_warm || self.flight.is_some() {
            return None;
        }
        let due = match self.usable(now) {
            Some(held) => held.dates?.due,
            None => now,
        };
        Some(self.background_from(due, now))
    }

    fn refresh_due(&mut self, now: Instant) -> Option<Takeoff> {
        let due = self.held.as_ref()?.dates?.due;
        (due <= now).then(|| self.background_flight(Reason::Due, now))?
    }

    fn background_flight(&mut self, reason: Reason, now: Instant) -> Option<Takeoff> {
        if self.flight.is_some() || self.background_from(now, now) > now {
            return None;
        }
        self.next_background = Some(now + self.policy.background_interval);
        Some(self.take_off(reason, None, now))
    }

    /// The first moment from `wanted` on at which a flight that nobody waits for may start.
    fn background_from(&self, wanted: Instant, now: Instant) -> Instant {
        let spaced = self.next_background.unwrap_or(wanted);
        let rested = self.rest_until(now).unwrap_or(wanted);
        wanted.max(spaced).max(rested)
    }

    fn may_renew(
        &self,
        origin: Option<&Origin>,
        waits: bool,
        now: Instant,
    ) -> Result<(), TokenError> {
        if let Some(error) = self.resting(now) {
            return Err(error);
        }
        if let Some(until) = self.strikes.held_until(origin).filter(|until| *until > now) {
            return Err(CacheError::Held(until - now).into());
        }
        if !waits && self.next_background.is_some_and(|next| next > now) {
            return Err(CacheError::TooSoon.into());
        }
        Ok(())
    }

    fn wait_for_new_flight(
        &mut self,
        reason: Reason,
        rejection: Option<&Rejection>,
        now: Instant,
    ) -> (Answer, Option<Takeoff>) {
        let takeoff = self.take_off(reason, rejection, now);
        (Answer::Wait(now + self.policy.flight_limit()), Some(takeoff))
    }

    fn take_off(&mut self, reason: Reason, rejection: Option<&Rejection>, now: Instant) -> Takeoff {
        let rejected = rejection.map(|rejection| rejection.token.clone());
        let challenge = rejection.and_then(|rejection| rejection.challenge.clone());
        self.flights += 1;
        self.flight = Some(Flight {
            id: self.flights,
            reason,
            started: now,
            rejected: rejected.clone(),
            renews: rejected.is_some(),
            origins: rejection.map(|rejection| rejection.origin.clone()).into_iter().collect(),
            lost_at: now + self.policy.flight_limit(),
        });
        let previous = self.previous.clone();
        let request = TokenRequest::from_parts(reason, previous, rejected, challenge);
        Takeoff { id: self.flights, request }
    }
}

// ===== What becomes of a flight =====

impl State {
    /// The flight has ended by itself; `None` if it was given up before.
    pub(super) fn landed(
        &mut self,
        id: FlightId,
        outcome: Result<Arrival, TokenError>,
        now: Instant,
        random: f64,
    ) -> Option<Ended> {
        let flight = self.flight.take_if(|flight| flight.id == id)?;
        let outcome = match outcome {
            Ok(arrival) => self.succeeded(&flight, &arrival, now, random),
            Err(error) => {
                self.failed(&error, now, random);
                Err(error)
            }
        };
        Some(self.ended(&flight, outcome, now))
    }

    /// The flight will never land: it panicked, or its runtime is gone. The source does not
    /// rest, for it has not answered; the next asker starts a new flight.
    pub(super) fn lost(&mut self, id: FlightId, why: &CacheError, now: Instant) -> Option<Ended> {
        let flight = self.flight.take_if(|flight| flight.id == id)?;
        let error = TokenError::from(why.clone());
        self.failures += 1;
        self.set_last_error(Some(error.clone()));
        Some(self.ended(&flight, Err(error), now))
    }

    fn ended(
        &self,
        flight: &Flight,
        outcome: Result<AccessToken, TokenError>,
        now: Instant,
    ) -> Ended {
        let rest = self.rest_until(now).map(|until| until.saturating_duration_since(now));
        Ended { outcome, reason: flight.reason, took: now - flight.started, rest }
    }

    /// Something that the source is configured with has changed: it need not rest.
    pub(super) fn recovered(&mut self) {
        self.rest = None;
    }

    /// Whether to ask the source now if it has [recovered](Self::recovered).
    pub(super) fn may_probe(&mut self, now: Instant) -> bool {
        let permanent = self.rest.as_ref().is_some_and(Rest::is_permanent);
        let may = permanent
            && self.rest_until(now).is_some_and(|until| until > now)
            && self.next_probe.is_none_or(|next| next <= now);
        if may {
            self.next_probe = Some(now + self.policy.background_interval);
        }
        may
    }

    fn give_up_lost(&mut self, now: Instant) {
        if let Some(flight) = self.flight.as_ref().filter(|flight| flight.lost_at <= now) {
            let ended = self.lost(flight.id, &CacheError::FlightLost, now);
            self.news.ended.extend(ended);
        }
    }

    fn succeeded(
        &mut self,
        flight: &Flight,
        arrival: &Arrival,
        now: Instant,
        random: f64,
    ) -> Result<AccessToken, TokenError> {
        self.rest = None;
        self.set_last_error(None);
        self.previous = Some(arrival.token.clone());
        self.keep(flight, arrival, now, random);

        let same = flight.rejected.as_ref().is_some_and(|token| token.is_same(&arrival.token));
        if !same {
            return Ok(arrival.token.clone());
        }
        for origin in &flight.origins {
            let strike = self.strikes.strike(origin.as_ref(), flight.id, now, &self.policy);
            self.news.strikes.extend(strike);
        }
        Err(CacheError::SameToken.into())
    }

    /// Makes the token the current one, unless it is expired on arrival.
    fn keep(&mut self, flight: &Flight, arrival: &Arrival, now: Instant, random: f64) {
        let life = self.policy.life(&arrival.token, arrival.called_wall);
        let mut dates = life.map(|life| self.policy.dates(arrival.called, life, random));
        if dates.is_some_and(|dates| dates.expired <= now) {
            return;
        }
        let before = self.held.take();
        if let (Some(dates), Some(before)) = (&mut dates, &before) {
            dates.wait_if_nothing_was_gained(before.dates, now);
        }
        let same = before.filter(|before| before.token.is_same(&arrival.token));
        self.held = Some(Held {
            token: arrival.token.clone(),
            brought_by: flight.id,
            dates,
            suspect: same.as_ref().is_some_and(|same| same.suspect),
            renewed: same.as_ref().map_or(flight.renews, |same| same.renewed),
            proven: same.map(|same| same.proven).unwrap_or_default(),
        });
    }

    fn failed(&mut self, error: &TokenError, now: Instant, random: f64) {
        self.failures += 1;
        self.rest = Some(Rest::after(error, self.rest.as_ref(), &self.policy, now, random));
        self.set_last_error(Some(error.clone()));
    }

    /// Marks the current token if it is the rejected one. To reject one that is unproven there
    /// is a strike, once for each token.
    fn suspect(&mut self, rejection: &Rejection, now: Instant) {
        let origin = rejection.origin.as_ref();
        let Some(held) = self.held.as_mut().filter(|held| held.token.is_same(&rejection.token))
        else {
            return;
        };
        held.suspect = true;
        let on_trial = held.renewed || self.strikes.has(origin);
        if on_trial && !held.is_proven(origin) {
            let strike = self.strikes.strike(origin, held.brought_by, now, &self.policy);
            self.news.strikes.extend(strike);
        }
    }

    fn set_last_error(&mut self, error: Option<TokenError>) {
        self.news.litter.extend(std::mem::replace(&mut self.last_error, error));
    }
}

// ===== What is there now =====

impl State {
    /// The token, if it has not expired: a suspect one too.
    pub(super) fn current(&self, now: Instant) -> Option<&AccessToken> {
        self.usable(now).map(|held| &held.token)
    }

    pub(super) fn is_fetching(&self) -> bool {
        self.flight.is_some()
    }

    pub(super) fn flights(&self) -> FlightId {
        self.flights
    }

    /// What may be handed out until when, with no further question.
    pub(super) fn ready(&self, now: Instant) -> Option<Ready> {
        let held = self.usable(now).filter(|_| !self.is_renewing())?;
        let ask_again = match (&self.flight, held.dates) {
            (Some(flight), _) => Some(flight.lost_at),
            (None, Some(dates)) => Some(self.background_from(dates.due, now)),
            (None, None) => None,
        };
        let expired = held.dates.map(|dates| dates.expired);
        Some(Ready {
            token: held.token.clone(),
            until: ask_again.into_iter().chain(expired).min(),
            expired,
            suspect: held.suspect,
            watched: held.renewed || !self.strikes.is_empty(),
            proven: held.proven.clone(),
        })
    }

    pub(super) fn status(&self, now: Instant) -> Status {
        let held = self.usable(now);
        Status {
            has_token: held.is_some(),
            suspect: held.is_some_and(|held| held.suspect),
            due: held.and_then(|held| held.dates).map(|dates| dates.due),
            expiry: held.and_then(|held| held.dates).map(|dates| dates.expired),
            fetching: self.is_fetching(),
            cooldown_until: self.rest_until(now).filter(|until| *until > now),
            last_error: self.last_error.clone(),
            flights: self.flights,
            failures: self.failures,
        }
    }

    fn usable(&self, now: Instant) -> Option<&Held> {
        self.held.as_ref().filter(|held| held.dates.is_none_or(|dates| now < dates.expired))
    }

    fn newer_than(&self, token: &AccessToken, now: Instant) -> Option<AccessToken> {
        self.current(now).filter(|current| !current.is_same(token)).cloned()
    }

    /// Whether a flight is to replace the current token because that was rejected.
    fn is_renewing(&self) -> bool {
        let suspect = self.held.as_ref().is_some_and(|held| held.suspect);
        suspect && self.flight.as_ref().is_some_and(|flight| flight.renews)
    }

    fn reason(&self) -> Reason {
        if self.previous.is_some() { Reason::Expired } else { Reason::First }
    }

    fn rest_until(&self, now: Instant) -> Option<Instant> {
        let rest = self.rest.as_ref()?;
        Some(rest.until(self.usable(now).is_some()))
    }

    /// The error that the source rests after, if it does.
    fn resting(&self, now: Instant) -> Option<TokenError> {
        self.rest_until(now).filter(|until| *until > now).and(self.last_error.clone())
    }
}

impl Held {
    fn is_proven(&self, origin: Option<&Origin>) -> bool {
        self.proven.iter().any(|proven| proven.as_ref() == origin)
    }
}

impl Flight {
    fn add_origin(&mut self, origin: Option<&Origin>) {
        if !self.origins.iter().any(|known| known.as_ref() == origin) {
            self.origins.push(origin.cloned());
        }
    }
}

#[cfg(test)]
mod tests;
