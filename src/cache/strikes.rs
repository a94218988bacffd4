//! Which origins have rejected fresh tokens, and how long their next renewal has to wait.

use std::time::Duration;

use tokio::time::Instant;

use super::{policy::RefreshPolicy, state::FlightId};
use crate::origin::Origin;

/// How many origins are remembered. The one that may renew soonest makes room for another.
const MAX_ORIGINS: usize = 64;

/// A strike list. A rejection that names no origin counts for an origin of its own.
#[derive(Debug, Default)]
pub(super) struct Strikes {
    list: Vec<Standing>,
}

#[derive(Debug)]
struct Standing {
    origin: Option<Origin>,
    strikes: u32,
    held_until: Instant,
    /// The flight whose token gave the last strike: a thousand rejections of it are one.
    given_for: FlightId,
}

/// One strike, as it was given.
#[derive(Debug)]
pub(super) struct Strike {
    pub(super) origin: Option<Origin>,
    pub(super) nth: u32,
    pub(super) held_for: Duration,
}

impl Strikes {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn has(&self, origin: Option<&Origin>) -> bool {
        self.list.iter().any(|standing| standing.origin.as_ref() == origin)
    }

    pub(super) fn held_until(&self, origin: Option<&Origin>) -> Option<Instant> {
        let standing = self.list.iter().find(|standing| standing.origin.as_ref() == origin)?;
        Some(standing.held_until)
    }

    /// A strike for the token that this flight has brought; `None` if it gave one already.
    pub(super) fn strike(
        &mut self,
        origin: Option<&Origin>,
        brought_by: FlightId,
        now: Instant,
        policy: &RefreshPolicy,
    ) -> Option<Strike> {
        let mut standing = self.take(origin).unwrap_or_else(|| Standing {
            origin: origin.cloned(),
            strikes: 0,
            held_until: now,
            given_for: 0,
        });
        let strike = (standing.given_for != brought_by).then(|| {
            standing.given_for = brought_by;
            standing.strikes = standing.strikes.saturating_add(1);
            let held_for = policy.hold(standing.strikes);
            standing.held_until = now + held_for;
            Strike { origin: origin.cloned(), nth: standing.strikes, held_for }
        });
        self.make_room();
        self.list.push(standing);
        strike
    }

    pub(super) fn clear(&mut self, origin: Option<&Origin>) {
        self.take(origin);
    }

    fn take(&mut self, origin: Option<&Origin>) -> Option<Standing> {
        let at = self.list.iter().position(|standing| standing.origin.as_ref() == origin)?;
        Some(self.list.swap_remove(at))
    }

    fn make_room(&mut self) {
        let soonest = self.list.iter().enumerate().min_by_key(|(_, standing)| standing.held_until);
        if let (true, Some((at, _))) = (self.list.len() == MAX_ORIGINS, soonest) {
            self.list.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_origins_are_held_up_in_a_bounded_list() {
        let (policy, now) = (RefreshPolicy::default(), Instant::now());
        let mut strikes = Strikes::default();
        for n in 0..1000 {
            let origin: Origin = format!("https://{n}.example").parse().unwrap();
            strikes.strike(Some(&origin), 1, now + Duration::from_secs(n), &policy);
            assert!(strikes.has(Some(&origin)));
        }
        assert_eq!(strikes.list.len(), MAX_ORIGINS);
    }
}
