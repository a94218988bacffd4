//! What is promised, as plain as can be: with the default policy, and knowing all that happened.

use std::time::Duration;

use tokio::time::Instant;

use super::Place;
use crate::cache::{answer::RejectedBy, names::FlightId};

const S: Duration = Duration::from_secs(1);
/// A flight from which nothing is heard counts as lost.
const LOST: Duration = Duration::from_secs(31);
/// A renewal backoff, the shortest and the longest.
const BACKOFF: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(300)];
/// The renewals that a place may cause: one more every 5 s, 20 in a row.
const RENEWAL: Duration = Duration::from_secs(5);
const RENEWALS: Duration = Duration::from_secs(100);

/// What somebody who asks is to get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Expected {
    Token {
        nth: usize,
        starts: bool,
    },
    /// The end of a flight that starts now.
    Flight,
    /// The end of the flight under way.
    Wait,
    /// The same, and then to ask again.
    WaitAndAskAgain,
    Error,
    /// A flight or an error: when exactly is not promised.
    FlightOrError,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Rejected {
    pub(super) nth: usize,
    pub(super) place: Place,
    pub(super) by: RejectedBy,
    pub(super) claims: Option<u8>,
}

/// A token that is known: the current one, or the last that was fetched.
#[derive(Clone, Copy)]
struct Known {
    nth: usize,
    /// The flight that brought it first.
    id: FlightId,
    by_renewal: bool,
    claims: Option<u8>,
}

#[derive(Clone, Copy)]
struct Current {
    known: Known,
    /// `None`: it lives until it is rejected.
    dates: Option<Dates>,
    suspect: bool,
}

#[derive(Clone, Copy)]
struct Dates {
    due: Instant,
    expired: Instant,
    end: Instant,
}

struct UnderWay {
    id: FlightId,
    started: Instant,
    rejected: Option<usize>,
    claims: Option<u8>,
    renews: bool,
    /// Where rejections wait for it.
    places: Vec<Place>,
}

struct Failed {
    is_transient: bool,
    nth: u32,
    at: Instant,
    /// How long nothing is fetched, without a token and with one.
    pauses: [Duration; 2],
    /// How long the service asked for.
    asked: Duration,
    next_check: Option<Instant>,
}

#[derive(Default)]
struct Standing {
    proven: Option<FlightId>,
    distrusted: Option<FlightId>,
    /// Since when it backs off, and which token it rejected then.
    backoff: Option<(Instant, FlightId)>,
    /// What it owes for renewals, and since when.
    owes: Option<(Duration, Instant)>,
}

pub(super) struct Promises {
    current: Option<Current>,
    latest: Option<Known>,
    flight: Option<UnderWay>,
    failed: Option<Failed>,
    /// Before this no flight starts that no caller waits for.
    background: Instant,
    /// A token is to be there: always, or once.
    wanted: Option<bool>,
    standings: [Standing; 4],
    /// The last token that any place has accepted.
    accepted: Option<FlightId>,
}

impl Promises {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            current: None,
            latest: None,
            flight: None,
            failed: None,
            background: now,
            wanted: None,
            standings: <[Standing; 4]>::default(),
            accepted: None,
        }
    }

    // ===== What is there =====

    /// A token that has not expired, whatever has failed and whoever has rejected it.
    pub(super) fn token(&self, now: Instant) -> Option<usize> {
        self.usable(now).map(|current| current.known.nth)
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.current.is_some_and(|current| current.suspect)
    }

    pub(super) fn flight(&self) -> Option<FlightId> {
        self.flight.as_ref().map(|flight| flight.id)
    }

    pub(super) fn flight_at(&self, now: Instant) -> Option<FlightId> {
        self.under_way(now).map(|flight| flight.id)
    }

    pub(super) fn is_kept_warm(&self) -> bool {
        self.wanted == Some(true)
    }

    fn usable(&self, now: Instant) -> Option<&Current> {
        self.current.as_ref().filter(|current| current.dates.is_none_or(|it| now < it.expired))
    }

    fn under_way(&self, now: Instant) -> Option<&UnderWay> {
        self.flight.as_ref().filter(|flight| now < flight.started + LOST)
    }

    fn known(&self, nth: usize) -> Option<Known> {
        let current = self.current.map(|current| current.known);
        current.into_iter().chain(self.latest).find(|known| known.nth == nth)
    }

    fn is_proven(&self, place: Place, id: FlightId) -> bool {
        match place {
            Some(place) => self.standings[place].proven == Some(id),
            None => self.accepted == Some(id),
        }
    }

    /// While a rejected token is being replaced, it is used only where it is proven.
    fn may_use(&self, place: Place, now: Instant) -> Option<&Current> {
        let current = self.usable(now)?;
        let is_renewing = current.suspect && self.under_way(now).is_some_and(|it| it.renews);
        let id = current.known.id;
        let is_trusted = place.is_some_and(|it| {
            self.is_proven(place, id) && self.standings[it].distrusted != Some(id)
        });
        (!is_renewing || is_trusted).then_some(current)
    }

    fn is_cooling(&self, now: Instant) -> bool {
        let has_token = self.usable(now).is_some();
        self.failed.as_ref().is_some_and(|it| now < it.at + it.pauses[usize::from(has_token)])
    }

    fn may_start_in_background(&self, now: Instant) -> bool {
        self.under_way(now).is_none() && self.background <= now && !self.is_cooling(now)
    }

    // ===== What is asked =====

    /// A flight from which nothing was heard is given up by the next who asks.
    pub(super) fn give_up_lost(&mut self, now: Instant) {
        if self.under_way(now).is_none() {
            self.flight = None;
        }
    }

    pub(super) fn ask(&self, place: Place, now: Instant) -> Expected {
        if let Some(current) = self.may_use(place, now) {
            let is_due = current.dates.is_some_and(|dates| dates.due <= now);
            let starts = is_due && self.may_start_in_background(now);
            return Expected::Token { nth: current.known.nth, starts };
        }
        match self.under_way(now) {
            Some(_) => Expected::Wait,
            None if self.is_cooling(now) => Expected::Error,
            None => Expected::Flight,
        }
    }

    pub(super) fn refresh(&self, now: Instant) -> Expected {
        match self.usable(now) {
            _ if self.under_way(now).is_some() => Expected::Wait,
            _ if self.is_cooling(now) => Expected::Error,
            Some(current) if self.background > now => {
                Expected::Token { nth: current.known.nth, starts: false }
            }
            _ => Expected::Flight,
        }
    }

    pub(super) fn keep_warm(&self, now: Instant) -> bool {
        let is_due = self
            .usable(now)
            .is_none_or(|current| current.dates.is_some_and(|dates| dates.due <= now));
        self.wanted.is_some() && is_due && self.may_start_in_background(now)
    }

    pub(super) fn want(&mut self, always: bool, now: Instant) {
        if always || (self.wanted.is_none() && self.usable(now).is_none()) {
            self.wanted = Some(always);
        }
    }

    pub(super) fn reject(&mut self, rejected: Rejected, now: Instant) -> Expected {
        let Rejected { nth, place, by, claims } = rejected;
        let newer = self.usable(now).filter(|current| current.known.nth != nth);
        match newer {
            None => self.suspect(rejected, now),
            Some(newer) if claims.is_some() && newer.known.claims != claims => {}
            Some(newer) => {
                let nth = newer.known.nth;
                if self.may_use(place, now).is_some() {
                    return Expected::Token { nth, starts: false };
                }
            }
        }
        let is_current = self.current.is_some_and(|current| current.known.nth == nth);
        if let Some(flight) = &mut self.flight {
            flight.renews |= is_current;
            if claims.is_some() && flight.claims != claims {
                return Expected::WaitAndAskAgain;
            }
            flight.places.push(place);
            return Expected::Wait;
        }
        let standing = &self.standings[super::at(place)];
        let is_too_soon = by != RejectedBy::Waiter && self.background > now;
        if self.is_cooling(now) || is_too_soon || standing.owes(now) + RENEWAL > RENEWALS {
            return Expected::Error;
        }
        match standing.backoff.map(|(since, _)| now - since) {
            Some(passed) if passed < BACKOFF[0] && claims.is_none() => Expected::Error,
            Some(passed) if passed < BACKOFF[1] => Expected::FlightOrError,
            _ => Expected::Flight,
        }
    }

    /// To reject a token on trial is a backoff, once for each token.
    fn suspect(&mut self, rejected: Rejected, now: Instant) {
        let Rejected { nth, place, by, .. } = rejected;
        if let Some(current) = self.current.as_mut().filter(|current| current.known.nth == nth) {
            current.suspect = true;
        }
        let Some(known) = self.known(nth) else { return };
        let is_proven = self.is_proven(place, known.id);
        let standing = &mut self.standings[super::at(place)];
        let on_trial = known.by_renewal || standing.backoff.is_some();
        let is_new = standing.backoff.is_none_or(|(_, caused_by)| caused_by != known.id);
        if on_trial && !is_proven && is_new {
            standing.backoff = Some((now, known.id));
        }
        if by == RejectedBy::Caller {
            standing.distrusted = Some(known.id);
        }
    }

    pub(super) fn accepted(&mut self, nth: usize, place: Place) {
        let Some(known) = self.known(nth) else { return };
        self.accepted = Some(known.id);
        self.standings[super::at(None)].backoff = None;
        let standing = &mut self.standings[super::at(place)];
        (standing.proven, standing.backoff) = (Some(known.id), None);
    }

    // ===== What becomes of a flight =====

    pub(super) fn started(&mut self, id: FlightId, rejected: Option<Rejected>, now: Instant) {
        if let Some(rejected) = rejected {
            let standing = &mut self.standings[super::at(rejected.place)];
            standing.owes = Some((standing.owes(now) + RENEWAL, now));
        }
        self.flight = Some(UnderWay {
            id,
            started: now,
            rejected: rejected.map(|it| it.nth),
            claims: rejected.and_then(|it| it.claims),
            renews: rejected.is_some(),
            places: rejected.map(|it| it.place).into_iter().collect(),
        });
    }

    /// It is one that no caller waits for, or counts as one.
    pub(super) fn spaces_the_next(&mut self, now: Instant) {
        self.background = now + S;
    }

    pub(super) fn lost(&mut self) {
        self.flight = None;
    }

    /// Whether it is another token than the one that was rejected.
    pub(super) fn arrived(
        &mut self,
        nth: usize,
        lifetime: Option<Duration>,
        called: Instant,
        random: f64,
        now: Instant,
    ) -> bool {
        let flight = self.flight.take().expect("it was under way");
        self.failed = None;
        let before = self.known(nth);
        let known = Known {
            nth,
            id: before.map_or(flight.id, |before| before.id),
            by_renewal: before.map_or(flight.renews, |before| before.by_renewal),
            claims: flight.claims.or(before.and_then(|before| before.claims)),
        };
        self.latest = Some(known);
        self.keep(known, lifetime.map(|it| Dates::new(it, called, random)), now);
        let is_same = flight.rejected == Some(nth);
        for place in flight.places.into_iter().filter(|_| is_same) {
            self.standings[super::at(place)].backoff = Some((now, known.id));
        }
        !is_same
    }

    /// One that is expired on arrival is not kept, and takes nothing away.
    fn keep(&mut self, known: Known, dates: Option<Dates>, now: Instant) {
        if dates.is_some_and(|dates| dates.expired <= now) {
            return;
        }
        if self.wanted == Some(false) {
            self.wanted = None;
        }
        let before = self.current.take();
        let ended = before.and_then(|before| before.dates).map(|before| before.end);
        let dates = dates.map(|dates| {
            let is_no_later = |end| now < end && dates.end <= end + S / 10;
            let half = now + (dates.end - now) / 2;
            Dates {
                due: if ended.is_some_and(is_no_later) { dates.due.max(half) } else { dates.due },
                ..dates
            }
        });
        let suspect = before.is_some_and(|it| it.suspect && it.known.id == known.id);
        self.current = Some(Current { known, dates, suspect });
    }

    pub(super) fn failed(
        &mut self,
        is_transient: bool,
        asked: Option<Duration>,
        random: f64,
        now: Instant,
    ) {
        self.flight = None;
        let before = self.failed.as_ref().filter(|before| before.is_transient == is_transient);
        let nth = before.map_or(1, |before| before.nth + 1);
        let asked = asked.unwrap_or_default().min(300 * S);
        let pause = |first: u32, max: u32| {
            let doubled = first.saturating_mul(1 << (nth - 1).min(20)).min(max);
            (S * doubled).mul_f64(1.0 - 0.2 * random).max(asked)
        };
        let pauses = match is_transient {
            false => [pause(30, 300); 2],
            true if asked > 2 * S => [asked; 2],
            true => [pause(1, 15), pause(1, 60)],
        };
        let next_check = self.failed.as_ref().and_then(|before| before.next_check);
        self.failed = Some(Failed { is_transient, nth, at: now, pauses, asked, next_check });
    }

    /// Whether the source may be asked now whether it has recovered.
    pub(super) fn may_check_recovery(&mut self, now: Instant) -> bool {
        let is_cooling = self.is_cooling(now);
        let Some(failed) = &mut self.failed else { return false };
        let may =
            is_cooling && !failed.is_transient && failed.next_check.is_none_or(|next| next <= now);
        if may {
            failed.next_check = Some(now + S);
        }
        may
    }

    pub(super) fn recovered(&mut self) {
        if let Some(failed) = &mut self.failed {
            failed.pauses = failed.pauses.map(|pause| pause.min(failed.asked));
        }
    }
}

impl Dates {
    fn new(lifetime: Duration, called: Instant, random: f64) -> Self {
        let is_whole = lifetime.subsec_nanos() == 0;
        let life = if is_whole { lifetime.saturating_sub(S).max(lifetime / 2) } else { lifetime };
        let life = life.min(365 * 86_400 * S);
        let window = (life.mul_f64(0.2)).min(1800 * S).mul_f64(1.0 + 0.5 * random);
        let margin = life.mul_f64(0.1).min(10 * S);
        Self {
            due: called + life.saturating_sub(window),
            expired: called + life.saturating_sub(margin),
            end: called + life,
        }
    }
}

impl Standing {
    fn owes(&self, now: Instant) -> Duration {
        self.owes.map_or(Duration::ZERO, |(owed, since)| owed.saturating_sub(now - since))
    }
}
