//! Every number that the cache goes by.

#[cfg(feature = "serde")]
mod config;

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

#[cfg(feature = "serde")]
use crate::data;
use crate::{error::TokenError, token::AccessToken};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The longest duration that any field takes: far from the end of every clock.
const LONGEST: Duration = YEAR.saturating_mul(10);

/// Declares each number once: its documentation, its type, its default.
macro_rules! numbers {
    ($( $(#[$doc:meta])* $name:ident: $type:ty = $default:expr; )*) => {
        /// When a token is refreshed, how often a fetch is tried, how long everybody waits.
        ///
        /// Made by [`RefreshPolicy::builder`], or read from data (feature `serde`);
        /// [`RefreshPolicyBuilder`] documents each number and its default.
        #[derive(Clone, Debug)]
        pub struct RefreshPolicy {
            $( pub(super) $name: $type, )*
            pub(super) default_lifetime: Option<Duration>,
            pub(super) max_wait: Option<Duration>,
            pub(super) keep_warm: bool,
        }

        impl Default for RefreshPolicy {
            fn default() -> Self {
                Self {
                    $( $name: $default, )*
                    default_lifetime: None,
                    max_wait: None,
                    keep_warm: false,
                }
            }
        }

        impl RefreshPolicyBuilder {
            $( $(#[$doc])*
            pub fn $name(mut self, $name: $type) -> Self {
                self.policy.$name = $name;
                self
            } )*
        }

        /// What is written of them, key by key.
        #[cfg(feature = "serde")]
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Numbers {
            $( $name: Option<data::Written<$type>>, )*
            default_lifetime: Option<data::Written<Duration>>,
            max_wait: Option<data::Written<Duration>>,
            keep_warm: Option<bool>,
        }

        #[cfg(feature = "serde")]
        impl Numbers {
            fn builder(self) -> RefreshPolicyBuilder {
                let mut policy = RefreshPolicy::default();
                $( if let Some(data::Written($name)) = self.$name {
                    policy.$name = $name;
                } )*
                policy.default_lifetime = self.default_lifetime.map(|written| written.0);
                policy.max_wait = self.max_wait.map(|written| written.0);
                policy.keep_warm = self.keep_warm.unwrap_or(policy.keep_warm);
                RefreshPolicyBuilder { policy }
            }
        }
    };
}

numbers! {
    /// The share of a token's life, at its end, in which it is *due*. Default: 0.2.
    due_share: f64 = 0.2;
    /// The due window is never longer than this, before jitter. Default: 30 minutes.
    due_max: Duration = MINUTE.saturating_mul(30);
    /// The share of itself by which the due window is lengthened, at random, so that a fleet
    /// does not refresh at once. Default: 0.5.
    due_jitter: f64 = 0.5;
    /// How long before its end a token counts as expired. Default: 10 seconds.
    expiry_margin: Duration = Duration::from_secs(10);
    /// That margin is never more than this share of the token's life. Default: 0.1.
    expiry_margin_share: f64 = 0.1;
    /// How much less a lifetime in whole seconds counts, because servers round; never more
    /// than half of it. Default: 1 second.
    lifetime_rounding: Duration = SECOND;
    /// A longer lifetime is cut to this. Default: 365 days.
    max_lifetime: Duration = YEAR;
    /// Flights that nobody waits for start at most this often. Default: 1 second.
    background_interval: Duration = SECOND;
    /// How often a flight calls the source, at most (1 to 10). Default: 3.
    attempts: u32 = 3;
    /// How long one call of the source may take; a source that
    /// [knows better](crate::TokenSource::attempt_timeout) is heeded instead. Default: 10
    /// seconds.
    attempt_timeout: Duration = Duration::from_secs(10);
    /// How long a flight may take, all attempts and pauses together. Default: 30 seconds.
    fetch_timeout: Duration = Duration::from_secs(30);
    /// How long after that a flight from which nothing is heard counts as lost. Default: 1
    /// second.
    lost_after: Duration = SECOND;
    /// The pause after the first attempt; it doubles. Default: 250 milliseconds.
    backoff_min: Duration = Duration::from_millis(250);
    /// The longest pause between two attempts. Default: 2 seconds.
    backoff_max: Duration = Duration::from_secs(2);
    /// The share of itself by which a pause or a rest is shortened, at random. Default: 0.2.
    pause_jitter: f64 = 0.2;
    /// A `Retry-After` of up to this is waited for inside the flight. Default: 2 seconds.
    retry_after_wait: Duration = Duration::from_secs(2);
    /// A longer one ends the flight and becomes the rest, up to this. Default: 5 minutes.
    retry_after_max: Duration = MINUTE.saturating_mul(5);
    /// The rest after a transient failure; it doubles. Default: 1 second.
    rest_min: Duration = SECOND;
    /// The longest such rest while there is no usable token. Default: 15 seconds.
    rest_max_without_token: Duration = Duration::from_secs(15);
    /// The longest such rest while there is one. Default: 60 seconds.
    rest_max_with_token: Duration = MINUTE;
    /// The rest after a permanent failure; it doubles. Default: 30 seconds.
    permanent_rest_min: Duration = Duration::from_secs(30);
    /// The longest such rest. Default: 5 minutes.
    permanent_rest_max: Duration = MINUTE.saturating_mul(5);
    /// How long an origin's next renewal waits after its first strike; it doubles. Default: 5
    /// seconds.
    strike_min: Duration = Duration::from_secs(5);
    /// The longest such wait. Default: 5 minutes.
    strike_max: Duration = MINUTE.saturating_mul(5);
}

/// Builds a [`RefreshPolicy`]. What is not set keeps its default.
///
/// No duration may be longer than ten years, and none but
/// [`lifetime_rounding`](Self::lifetime_rounding),
/// [`background_interval`](Self::background_interval), [`expiry_margin`](Self::expiry_margin)
/// and [`retry_after_wait`](Self::retry_after_wait) may be zero. A share is a number from 0 to 1.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::RefreshPolicy;
///
/// let policy = RefreshPolicy::builder()
///     .default_lifetime(Duration::from_secs(600))
///     .max_wait(Duration::from_secs(5))
///     .keep_warm(true)
///     .build()?;
///
/// let error = RefreshPolicy::builder().attempts(0).build().unwrap_err();
/// assert_eq!(error.field(), "attempts");
/// # Ok::<(), tower_bearer::InvalidPolicy>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it is built"]
pub struct RefreshPolicyBuilder {
    policy: RefreshPolicy,
}

impl RefreshPolicyBuilder {
    /// How long a token lives if neither it nor its source says. Default: until it is rejected.
    pub fn default_lifetime(mut self, lifetime: Duration) -> Self {
        self.policy.default_lifetime = Some(lifetime);
        self
    }

    /// How long a caller waits for a token, at most. Such a limit does not end the flight.
    /// Default: as long as a flight may take, the grace of [`lost_after`](Self::lost_after)
    /// included.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.policy.max_wait = Some(wait);
        self
    }

    /// Whether a due token is refreshed without traffic too, from the first flight on, until
    /// the last handle is dropped. Default: no; an idle cache fetches nothing.
    pub fn keep_warm(mut self, keep_warm: bool) -> Self {
        self.policy.keep_warm = keep_warm;
        self
    }

    /// Checks every number.
    ///
    /// # Errors
    ///
    /// [`InvalidPolicy`] names the first field that is out of its range or contradicts
    /// another one.
    pub fn build(self) -> Result<RefreshPolicy, InvalidPolicy> {
        let policy = self.policy;
        policy.check_ranges()?;
        policy.check_pairs()?;
        Ok(policy)
    }
}

// ===== impl RefreshPolicy =====

impl RefreshPolicy {
    /// A builder that holds the defaults.
    pub fn builder() -> RefreshPolicyBuilder {
        RefreshPolicyBuilder::default()
    }

    /// The same, for a source that knows how long one of its fetches may take.
    pub(super) fn for_source(mut self, attempt_timeout: Option<Duration>) -> Self {
        if let Some(timeout) = attempt_timeout {
            self.attempt_timeout = timeout.clamp(Duration::from_millis(1), LONGEST);
            self.fetch_timeout = self.fetch_timeout.max(self.attempt_timeout);
        }
        self
    }

    /// After how long a flight counts as lost.
    pub(super) fn flight_limit(&self) -> Duration {
        self.fetch_timeout + self.lost_after
    }

    /// How long a caller waits, at most.
    pub(super) fn wait_limit(&self) -> Duration {
        self.max_wait.unwrap_or_else(|| self.flight_limit())
    }

    /// How long a token lives whose fetch began at `called`; `None` until it is rejected.
    pub(super) fn life(&self, token: &AccessToken, called: SystemTime) -> Option<Duration> {
        let absolute = || Some(token.expiry()?.duration_since(called).unwrap_or_default());
        token
            .lifetime()
            .map(|lifetime| self.unrounded(lifetime))
            .or_else(absolute)
            .or(self.default_lifetime)
            .map(|life| life.min(self.max_lifetime))
    }

    /// The dates of a token whose fetch began then, and that lives so long.
    pub(super) fn dates(&self, called: Instant, life: Duration, random: f64) -> Dates {
        let margin = self.expiry_margin.min(life.mul_f64(self.expiry_margin_share));
        let window = self.due_max.min(life.mul_f64(self.due_share));
        let window = window.mul_f64(1.0 + self.due_jitter * random);
        Dates {
            due: called + life.saturating_sub(window),
            expired: called + life.saturating_sub(margin),
            end: called + life,
        }
    }

    /// The pause before the next attempt of a flight; `None` if there is none to be.
    pub(super) fn pause(&self, made: u32, error: &TokenError, random: f64) -> Option<Duration> {
        let asked = error.retry_after().unwrap_or_default();
        if made >= self.attempts || !error.is_transient() || asked > self.retry_after_wait {
            return None;
        }
        let backoff = doubling(self.backoff_min, self.backoff_max, made);
        Some(self.jittered(backoff, random).max(asked))
    }

    /// The rest after the nth failure of a kind in a row: without and with a usable token.
    pub(super) fn rests(&self, nth: u32, error: &TokenError, random: f64) -> (Duration, Duration) {
        let asked = error.retry_after().unwrap_or_default().min(self.retry_after_max);
        let rest = |min, max| self.jittered(doubling(min, max, nth), random).max(asked);
        if !error.is_transient() {
            let rest = rest(self.permanent_rest_min, self.permanent_rest_max);
            return (rest, rest);
        }
        if asked > self.retry_after_wait {
            return (asked, asked);
        }
        (
            rest(self.rest_min, self.rest_max_without_token),
            rest(self.rest_min, self.rest_max_with_token),
        )
    }

    /// How long an origin's next renewal waits after its nth strike.
    pub(super) fn hold(&self, nth: u32) -> Duration {
        doubling(self.strike_min, self.strike_max, nth)
    }

    fn unrounded(&self, lifetime: Duration) -> Duration {
        if lifetime.subsec_nanos() == 0 {
            lifetime.saturating_sub(self.lifetime_rounding).max(lifetime / 2)
        } else {
            lifetime
        }
    }

    fn jittered(&self, pause: Duration, random: f64) -> Duration {
        pause.mul_f64(1.0 - self.pause_jitter * random)
    }

    fn check_ranges(&self) -> Result<(), InvalidPolicy> {
        for (field, share) in [
            ("due_share", self.due_share),
            ("due_jitter", self.due_jitter),
            ("expiry_margin_share", self.expiry_margin_share),
            ("pause_jitter", self.pause_jitter),
        ] {
            InvalidPolicy::unless((0.0..=1.0).contains(&share), field, "must be from 0 to 1")?;
        }
        let default_lifetime = self.default_lifetime.unwrap_or(SECOND);
        let max_wait = self.max_wait.unwrap_or(SECOND);
        for (field, duration, zero) in [
            ("due_max", self.due_max, false),
            ("expiry_margin", self.expiry_margin, true),
            ("lifetime_rounding", self.lifetime_rounding, true),
            ("max_lifetime", self.max_lifetime, false),
            ("background_interval", self.background_interval, true),
            ("attempt_timeout", self.attempt_timeout, false),
            ("fetch_timeout", self.fetch_timeout, false),
            ("lost_after", self.lost_after, false),
            ("backoff_min", self.backoff_min, false),
            ("backoff_max", self.backoff_max, false),
            ("retry_after_wait", self.retry_after_wait, true),
            ("retry_after_max", self.retry_after_max, false),
            ("rest_min", self.rest_min, false),
            ("rest_max_without_token", self.rest_max_without_token, false),
            ("rest_max_with_token", self.rest_max_with_token, false),
            ("permanent_rest_min", self.permanent_rest_min, false),
            ("permanent_rest_max", self.permanent_rest_max, false),
            ("strike_min", self.strike_min, false),
            ("strike_max", self.strike_max, false),
            ("default_lifetime", default_lifetime, false),
            ("max_wait", max_wait, false),
        ] {
            InvalidPolicy::unless(duration <= LONGEST, field, "must be ten years at most")?;
            InvalidPolicy::unless(zero || !duration.is_zero(), field, "must not be zero")?;
        }
        InvalidPolicy::unless((1..=10).contains(&self.attempts), "attempts", "must be from 1 to 10")
    }

    fn check_pairs(&self) -> Result<(), InvalidPolicy> {
        let due_from = self.due_share * (1.0 + self.due_jitter);
        InvalidPolicy::unless(
            due_from < 1.0,
            "due_share",
            "makes every token due at once, with `due_jitter` added",
        )?;
        InvalidPolicy::unless(
            self.expiry_margin_share < 1.0,
            "expiry_margin_share",
            "makes every token expired at once",
        )?;
        for (field, low, high, problem) in [
            (
                "attempt_timeout",
                self.attempt_timeout,
                self.fetch_timeout,
                "must not be longer than `fetch_timeout`",
            ),
            (
                "backoff_min",
                self.backoff_min,
                self.backoff_max,
                "must not be longer than `backoff_max`",
            ),
            (
                "retry_after_wait",
                self.retry_after_wait,
                self.retry_after_max,
                "must not be longer than `retry_after_max`",
            ),
            (
                "rest_min",
                self.rest_min,
                self.rest_max_without_token.min(self.rest_max_with_token),
                "must not be longer than `rest_max_without_token` and `rest_max_with_token`",
            ),
            (
                "permanent_rest_min",
                self.permanent_rest_min,
                self.permanent_rest_max,
                "must not be longer than `permanent_rest_max`",
            ),
            (
                "strike_min",
                self.strike_min,
                self.strike_max,
                "must not be longer than `strike_max`",
            ),
            (
                "default_lifetime",
                self.default_lifetime.unwrap_or_default(),
                self.max_lifetime,
                "must not be longer than `max_lifetime`",
            ),
        ] {
            InvalidPolicy::unless(low <= high, field, problem)?;
        }
        Ok(())
    }
}

// ===== impl Dates =====

/// The dates in the life of a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dates {
    pub(super) due: Instant,
    /// From then on it is not used: a margin before the end.
    pub(super) expired: Instant,
    end: Instant,
}

impl Dates {
    /// A refresh that brought no later end is not tried again before half of what is left.
    pub(super) fn wait_if_nothing_was_gained(&mut self, before: Option<Self>, now: Instant) {
        // The end may come from the clock of the wall, which is no steady one.
        let tolerance = SECOND / 10;
        let nothing_gained =
            before.is_some_and(|before| now < before.end && self.end <= before.end + tolerance);
        if nothing_gained {
            self.due = self.due.max(now + (self.end - now) / 2);
        }
    }
}

/// `min`, doubled for each one after the first, `max` at most.
fn doubling(min: Duration, max: Duration, nth: u32) -> Duration {
    let factor = 2_u32.saturating_pow(nth.saturating_sub(1));
    min.saturating_mul(factor).min(max)
}

// ===== impl InvalidPolicy =====

/// A number of a [`RefreshPolicy`] that is out of its range or contradicts another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the refresh policy's `{field}` {problem}")]
pub struct InvalidPolicy {
    field: &'static str,
    problem: &'static str,
}

impl InvalidPolicy {
    /// The name of the field.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }

    fn unless(right: bool, field: &'static str, problem: &'static str) -> Result<(), Self> {
        if right { Ok(()) } else { Err(Self { field, problem }) }
    }
}

#[cfg(test)]
mod tests;
