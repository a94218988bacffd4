//! What the cache knows of each origin: whether it has accepted the current token, how long its
//! next renewal has to wait, and how many renewals it may still cause.
//!
//! ```text
//! proof     unproven ──a request with the token was accepted──▶ proven   (for that token alone)
//! backoff   none ──an unproven, renewed token was rejected──▶ waiting ──by time──▶ may renew
//!             ▲──────────────────── accepted ───────────────────┴────────────────────┘
//! budget    20 renewals, one more every 5 s: acceptances do not fill it
//! ```

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{
    names::{FlightId, TokenId},
    policy::{RENEWAL_BUDGET, RENEWAL_REFILL, renewal_backoff},
    rejection::Demand,
};
use crate::{clock::later::Later, error::CacheError, origin::Origin};

/// How many origins are remembered separately. The others share one entry, in which no token is
/// ever proven.
const MAX_ORIGINS: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Origins {
    known: HashMap<Origin, Standing>,
    others: Standing,
    /// For rejections that name no origin.
    unnamed: Standing,
    /// The last token that was accepted, by any origin.
    accepted: Option<TokenId>,
}

#[derive(Debug, Default)]
struct Standing {
    proven: Option<TokenId>,
    /// The token that a caller has rejected there, whatever the layer sees.
    distrusted: Option<TokenId>,
    backoff: Option<Backoff>,
    /// When the budget is full again; one renewal is worth [`RENEWAL_REFILL`].
    full_at: Option<Instant>,
    /// The flight that a rejection of this origin waits for.
    awaits: FlightId,
}

#[derive(Debug)]
struct Backoff {
    nth: u32,
    until: Instant,
    /// The token that caused it: a thousand rejections of one token count as one.
    caused_by: TokenId,
    /// What the rejected token was meant to satisfy. The first rejection with another demand may
    /// renew.
    demand: Option<Demand>,
    has_let_one_through: bool,
}

/// A renewal backoff has begun.
#[derive(Debug)]
pub(super) struct BackedOff {
    pub(super) origin: Option<Origin>,
    pub(super) nth: u32,
    pub(super) pause: Duration,
}

/// An origin that had rejected a token accepts one: the new one that it has waited for or, after
/// this many backoffs, any.
#[derive(Debug)]
pub(super) struct AcceptedAgain {
    pub(super) origin: Option<Origin>,
    pub(super) backoffs: u32,
}

// ===== impl Origins =====

impl Origins {
    /// Whether a request with this token was accepted there. An unnamed origin counts as having
    /// accepted what any other has.
    pub(super) fn is_proven(&self, origin: Option<&Origin>, token: TokenId) -> bool {
        match origin {
            Some(origin) => self.known.get(origin).is_some_and(|it| it.proven == Some(token)),
            None => self.accepted == Some(token),
        }
    }

    /// Whether requests there may go on using the token while it is being replaced.
    pub(super) fn is_trusted(&self, origin: &Origin, token: TokenId) -> bool {
        let is_trusted = |it: &Standing| it.proven == Some(token) && it.distrusted != Some(token);
        self.known.get(origin).is_some_and(is_trusted)
    }

    /// A caller reports that the token is not valid there.
    pub(super) fn distrust(&mut self, origin: Option<&Origin>, token: TokenId, now: Instant) {
        self.standing_mut(origin, now).distrusted = Some(token);
    }

    /// Whether an acceptance of the token there changes anything.
    pub(super) fn is_news(&self, origin: Option<&Origin>, token: TokenId) -> bool {
        !self.is_proven(origin, token) || self.has_backoff(origin)
    }

    pub(super) fn has_backoff(&self, origin: Option<&Origin>) -> bool {
        self.standing(origin).backoff.is_some()
    }

    /// A request with this token was accepted there. If that ends a backoff, this returns a report.
    pub(super) fn accepted(
        &mut self,
        origin: Option<&Origin>,
        token: TokenId,
        now: Instant,
    ) -> Vec<AcceptedAgain> {
        self.accepted = Some(token);
        let unnamed = self.unnamed.backoff.take();
        let standing = self.standing_mut(origin, now);
        let is_new = standing.proven.replace(token) != Some(token);
        let is_awaited = is_new && standing.awaits == token;
        let named = standing.backoff.take();
        let is_named = origin.is_some();
        let (here, beside) = if is_named { (named, unnamed) } else { (unnamed, None) };
        let backoffs = here.map_or(0, |backoff| backoff.nth);
        let here = AcceptedAgain { origin: origin.cloned(), backoffs };
        let beside = beside.map(|it| AcceptedAgain { origin: None, backoffs: it.nth });
        (is_awaited || backoffs > 0).then_some(here).into_iter().chain(beside).collect()
    }

    /// A token was rejected where it is unproven; `None` if it has already caused a backoff.
    /// `demand` is what the renewal that returned the token was asked for.
    pub(super) fn back_off(
        &mut self,
        origin: Option<&Origin>,
        token: TokenId,
        demand: Option<Demand>,
        now: Instant,
    ) -> Option<BackedOff> {
        let before = self.standing(origin).backoff.as_ref();
        let is_known = before.is_some_and(|backoff| backoff.caused_by == token);
        (!is_known).then(|| self.back_off_longer(origin, token, demand, now))
    }

    fn back_off_longer(
        &mut self,
        origin: Option<&Origin>,
        token: TokenId,
        demand: Option<Demand>,
        now: Instant,
    ) -> BackedOff {
        let standing = self.standing_mut(origin, now);
        let before = standing.backoff.take();
        let nth = before.as_ref().map_or(0, |backoff| backoff.nth).saturating_add(1);
        let pause = renewal_backoff(nth);
        let has_let_one_through = before.is_some_and(|backoff| backoff.has_let_one_through);
        standing.backoff = Some(Backoff {
            nth,
            until: now.later(pause),
            caused_by: token,
            demand,
            has_let_one_through,
        });
        BackedOff { origin: origin.cloned(), nth, pause }
    }

    /// Every origin that waits for this flight backs off: the flight returned the rejected token
    /// again, perhaps not for the first time.
    pub(super) fn back_off_together(
        &mut self,
        flight: FlightId,
        token: TokenId,
        now: Instant,
    ) -> Vec<BackedOff> {
        let waiting = self.known.iter().filter(|(_, standing)| standing.awaits == flight);
        let waiting: Vec<_> = waiting.map(|(origin, _)| Some(origin.clone())).collect();
        let unnamed = (self.unnamed.awaits == flight).then_some(None);
        waiting
            .into_iter()
            .chain(unnamed)
            .map(|origin| self.back_off_longer(origin.as_ref(), token, None, now))
            .collect()
    }

    /// Whether a rejection there may start a renewal now.
    pub(super) fn may_renew(
        &self,
        origin: Option<&Origin>,
        demand: Option<&Demand>,
        now: Instant,
    ) -> Result<(), CacheError> {
        let standing = self.standing(origin);
        let waits = standing.backoff.as_ref().map(|backoff| backoff.waits(demand, now));
        let wait = waits.unwrap_or_default().max(standing.until_affordable(now));
        if wait.is_zero() { Ok(()) } else { Err(CacheError::RenewalBackoff(wait)) }
    }

    /// A rejection there has started a renewal.
    pub(super) fn renewing(
        &mut self,
        origin: Option<&Origin>,
        demand: Option<&Demand>,
        now: Instant,
    ) {
        let standing = self.standing_mut(origin, now);
        standing.full_at =
            Some(standing.full_at.map_or(now, |at| at.max(now)).later(RENEWAL_REFILL));
        if let Some(backoff) = standing.backoff.as_mut().filter(|backoff| backoff.until > now) {
            backoff.has_let_one_through = true;
            backoff.demand = demand.cloned();
        }
    }

    /// A rejection there waits for this flight.
    pub(super) fn awaits(&mut self, origin: Option<&Origin>, flight: FlightId, now: Instant) {
        self.standing_mut(origin, now).awaits = flight;
    }

    fn standing(&self, origin: Option<&Origin>) -> &Standing {
        match origin {
            Some(origin) => self.known.get(origin).unwrap_or(&self.others),
            None => &self.unnamed,
        }
    }

    fn standing_mut(&mut self, origin: Option<&Origin>, now: Instant) -> &mut Standing {
        let Some(origin) = origin else { return &mut self.unnamed };
        if !self.known.contains_key(origin) {
            self.make_room(now);
            if self.known.len() == MAX_ORIGINS {
                return &mut self.others;
            }
        }
        self.known.entry(origin.clone()).or_default()
    }

    /// Forgets the origins about which nothing matters now.
    fn make_room(&mut self, now: Instant) {
        if self.known.len() == MAX_ORIGINS {
            let accepted = self.accepted;
            self.known.retain(|_, standing| standing.matters(accepted, now));
        }
    }
}

// ===== impl Standing =====

impl Standing {
    /// How long until the budget pays for a renewal.
    fn until_affordable(&self, now: Instant) -> Duration {
        let owed = self.full_at.map(|at| at.saturating_duration_since(now)).unwrap_or_default();
        owed.saturating_add(RENEWAL_REFILL)
            .saturating_sub(RENEWAL_REFILL.saturating_mul(RENEWAL_BUDGET))
    }

    fn matters(&self, accepted: Option<TokenId>, now: Instant) -> bool {
        self.backoff.as_ref().is_some_and(|backoff| backoff.until > now)
            || self.full_at.is_some_and(|at| at > now)
            || (self.proven.is_some() && self.proven == accepted)
    }
}

// ===== impl Backoff =====

impl Backoff {
    /// How long a rejection with this demand still has to wait.
    fn waits(&self, demand: Option<&Demand>, now: Instant) -> Duration {
        let is_new = demand.is_some() && demand != self.demand.as_ref();
        if is_new && !self.has_let_one_through {
            return Duration::ZERO;
        }
        self.until.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(n: usize) -> Origin {
        format!("https://{n}.example").parse().unwrap()
    }

    #[test]
    fn origins_beyond_the_bound_share_one_entry_and_none_is_forgotten_that_matters() {
        let (now, mut origins) = (Instant::now(), Origins::default());
        for n in 0..3 * MAX_ORIGINS {
            origins.back_off(Some(&origin(n)), n as u64, None, now);
            assert!(origins.has_backoff(Some(&origin(n))));
        }
        assert_eq!(origins.known.len(), MAX_ORIGINS);
        assert!(origins.may_renew(Some(&origin(0)), None, now).is_err());
        assert!(origins.may_renew(Some(&origin(5 * MAX_ORIGINS)), None, now).is_err(), "shared");
        let later = now + Duration::from_secs(6);
        origins.back_off(Some(&origin(9 * MAX_ORIGINS)), 1, None, later);
        assert_eq!(origins.known.len(), 1, "those whose backoff was over made room");
    }

    #[test]
    fn an_origin_in_the_shared_entry_never_counts_as_proven() {
        let (now, mut origins) = (Instant::now(), Origins::default());
        for n in 0..=MAX_ORIGINS {
            origins.accepted(Some(&origin(n)), 7, now);
        }
        assert!(origins.is_proven(Some(&origin(0)), 7));
        assert!(!origins.is_proven(Some(&origin(MAX_ORIGINS)), 7));
    }

    #[test]
    fn an_acceptance_anywhere_ends_the_backoff_of_those_who_name_no_origin() {
        let (now, mut origins) = (Instant::now(), Origins::default());
        origins.back_off(None, 1, None, now);
        assert!(origins.may_renew(None, None, now).is_err());
        origins.accepted(Some(&origin(1)), 1, now);
        assert!(origins.may_renew(None, None, now).is_ok());
    }

    #[test]
    fn the_budget_is_twenty_renewals_and_one_more_every_five_seconds() {
        let (mut now, mut origins) = (Instant::now(), Origins::default());
        let api = origin(1);
        let mut renew = |now| {
            let may = origins.may_renew(Some(&api), None, now);
            if may.is_ok() {
                origins.renewing(Some(&api), None, now);
                origins.accepted(Some(&api), 1, now);
            }
            may.is_ok()
        };
        assert_eq!((0..100).filter(|_| renew(now)).count(), 20);
        now += Duration::from_secs(12);
        assert_eq!((0..100).filter(|_| renew(now)).count(), 2);
        now += Duration::from_secs(3);
        assert_eq!((0..100).filter(|_| renew(now)).count(), 1);
        now += Duration::from_secs(1000);
        assert_eq!((0..100).filter(|_| renew(now)).count(), 20);
    }

    fn demand(claims: &str) -> Demand {
        let challenge = crate::challenge::Challenge::new("Bearer").with_param("claims", claims);
        let token = crate::token::AccessToken::new("a").unwrap();
        let rejection = crate::cache::Rejection::new(token).with_challenge(challenge);
        rejection.demand().expect("claims are one")
    }

    #[test]
    fn who_waits_for_a_flight_that_brings_the_same_token_backs_off_named_or_not() {
        let (now, mut origins) = (Instant::now(), Origins::default());
        let backed_off = |origins: &mut Origins, flight, token| {
            let mut names: Vec<_> = origins
                .back_off_together(flight, token, now)
                .into_iter()
                .map(|backed_off| backed_off.origin.map(|origin| origin.to_string()))
                .collect();
            names.sort();
            names
        };
        origins.awaits(Some(&origin(1)), 7, now);
        origins.awaits(Some(&origin(2)), 6, now);
        assert_eq!(backed_off(&mut origins, 7, 1), [Some(origin(1).to_string())]);
        origins.awaits(None, 8, now);
        origins.awaits(Some(&origin(2)), 8, now);
        assert_eq!(backed_off(&mut origins, 8, 2), [None, Some(origin(2).to_string())]);
    }

    #[test]
    fn a_backoff_that_is_over_has_let_none_through() {
        let (start, mut origins) = (Instant::now(), Origins::default());
        let api = origin(1);
        let pause = origins.back_off(Some(&api), 1, None, start).unwrap().pause;
        let now = start + pause;
        origins.may_renew(Some(&api), None, now).unwrap();
        origins.renewing(Some(&api), None, now);
        origins.back_off(Some(&api), 2, None, now).unwrap();
        origins.may_renew(Some(&api), None, now).unwrap_err();
        origins.may_renew(Some(&api), Some(&demand("a")), now).unwrap();
    }

    #[test]
    fn a_plain_rejection_is_not_what_a_backoff_lets_through() {
        let (now, mut origins) = (Instant::now(), Origins::default());
        let api = origin(1);
        origins.back_off(Some(&api), 1, Some(demand("a")), now);
        origins.may_renew(Some(&api), None, now).unwrap_err();
        origins.may_renew(Some(&api), Some(&demand("a")), now).unwrap_err();
        origins.may_renew(Some(&api), Some(&demand("b")), now).unwrap();
        origins.renewing(Some(&api), Some(&demand("b")), now);
        origins.may_renew(Some(&api), Some(&demand("c")), now).unwrap_err();
    }

    #[test]
    fn an_origin_matters_while_it_backs_off_owes_renewals_or_has_proven_the_token() {
        let (start, mut origins) = (Instant::now(), Origins::default());
        let (backs_off, owes, proven) = (origin(1), origin(2), origin(3));
        let pause = origins.back_off(Some(&backs_off), 1, None, start).unwrap().pause;
        origins.renewing(Some(&owes), None, start);
        origins.accepted(Some(&proven), 7, start);
        let moment = Duration::from_millis(1);
        let matters = |origin: &Origin, now| origins.known[origin].matters(Some(7), now);
        assert!(matters(&backs_off, start + pause - moment));
        assert!(!matters(&backs_off, start + pause));
        assert!(matters(&owes, start + RENEWAL_REFILL - moment));
        assert!(!matters(&owes, start + RENEWAL_REFILL));
        assert!(matters(&proven, start));
        assert!(!origins.known[&proven].matters(Some(8), start));
        assert!(!Standing::default().matters(None, start), "nothing was proven");
    }
}
