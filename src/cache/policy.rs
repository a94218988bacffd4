//! Every number that the cache uses: those that a user may set, and the constants.

#[cfg(feature = "serde")]
mod config;

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

#[cfg(feature = "serde")]
use crate::data;
use crate::{clock::later::Later, error::TokenError, token::AccessToken};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

// ===== The constants =====

/// The due window is never longer than this, before jitter.
const DUE_MAX: Duration = MINUTE.saturating_mul(30);
/// The margin before the expiry is never more than this share of the token's life.
const EXPIRY_MARGIN_SHARE: f64 = 0.1;
/// How much the cache takes off a lifetime in whole seconds, because servers round; at most half of
/// it.
const LIFETIME_ROUNDING: Duration = SECOND;
/// How long after the fetch timeout a silent flight counts as lost.
const LOST_AFTER: Duration = SECOND;
/// The time for one attempt, if the source does not say how long it may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for all attempts of a flight together.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause between two attempts: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// The flight itself waits for a `Retry-After` of up to this.
const RETRY_AFTER_WAIT: Duration = Duration::from_secs(2);
/// A longer one ends the flight and becomes the cooldown, up to this.
const RETRY_AFTER_MAX: Duration = MINUTE.saturating_mul(5);
/// The first cooldown after transient failures.
const COOLDOWN: Duration = SECOND;
/// How many times longer the longest such cooldown may be while there is a usable token.
const COOLDOWN_WITH_TOKEN: u32 = 4;
/// The cooldown after permanent failures: the first, and the longest.
const PERMANENT_COOLDOWN: (Duration, Duration) =
    (Duration::from_secs(30), MINUTE.saturating_mul(5));
/// The renewal backoff of an origin: the first, and the longest.
const RENEWAL_BACKOFF: (Duration, Duration) = (Duration::from_secs(5), MINUTE.saturating_mul(5));
/// How many renewals an origin may cause in a row.
pub(super) const RENEWAL_BUDGET: u32 = 20;
/// How long it takes until it may cause one more.
pub(super) const RENEWAL_REFILL: Duration = Duration::from_secs(5);
/// `keep_warm` starts a flight at most this often, whatever the policy says.
pub(super) const WARM_INTERVAL: Duration = SECOND;
/// How often at most the cache asks a source that cools down whether it has recovered.
pub(super) const RECOVERY_INTERVAL: Duration = SECOND;

/// The longest duration that any field takes: far from the end of every clock.
const LONGEST: Duration = YEAR.saturating_mul(10);

// ===== What a user may set =====

/// Declares each number once: its documentation, its type, its default.
macro_rules! numbers {
    (
        with_default { $( $(#[$doc:meta])* $name:ident: $type:ty = $default:expr; )* }
        derived { $( $(#[$opt_doc:meta])* $opt:ident; )* }
    ) => {
        /// When to refresh a token, how often to try a fetch, how long callers may wait.
        ///
        /// [`RefreshPolicy::builder`] makes one, and so does data (feature `serde`).
        /// [`RefreshPolicyBuilder`] documents each number and its default. What you set takes
        /// precedence over what a [`TokenSource`](crate::TokenSource) suggests.
        #[derive(Clone, Debug, PartialEq)]
        pub struct RefreshPolicy {
            $( pub(super) $name: $type, )*
            $( $opt: Option<Duration>, )*
            pub(super) keep_warm: bool,
        }

        impl Default for RefreshPolicy {
            fn default() -> Self {
                Self { $( $name: $default, )* $( $opt: None, )* keep_warm: false }
            }
        }

        impl RefreshPolicyBuilder {
            $( $(#[$doc])*
            pub fn $name(mut self, $name: $type) -> Self {
                self.policy.$name = $name;
                self
            } )*

            $( $(#[$opt_doc])*
            pub fn $opt(mut self, $opt: Duration) -> Self {
                self.policy.$opt = Some($opt);
                self
            } )*
        }

        /// The numbers as data has them, key by key.
        #[cfg(feature = "serde")]
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Numbers {
            $( $name: Option<data::Written<$type>>, )*
            $( $opt: Option<data::Written<Duration>>, )*
            keep_warm: Option<bool>,
        }

        #[cfg(feature = "serde")]
        impl Numbers {
            fn builder(self) -> RefreshPolicyBuilder {
                let mut policy = RefreshPolicy::default();
                $( if let Some(data::Written($name)) = self.$name {
                    policy.$name = $name;
                } )*
                $( policy.$opt = self.$opt.map(|written| written.0); )*
                policy.keep_warm = self.keep_warm.unwrap_or(policy.keep_warm);
                RefreshPolicyBuilder { policy }
            }
        }
    };
}

numbers! {
    with_default {
        /// The share of a token's life, at its end, in which it is *due*: the next request refreshes
        /// it in the background. The window is at most 30 minutes, before jitter. Default: 0.2.
        ///
        /// A token that [says](crate::AccessToken::with_refresh_in) when it is due is due then.
        due_share: f64 = 0.2;
        /// The share of the due window by which the window is lengthened, at random, so that the
        /// processes of a fleet do not all refresh at once. Where a token says when it is due, the
        /// share of the time from then to its end (at most 30 minutes) by which the refresh is
        /// delayed. Default: 0.5.
        due_jitter: f64 = 0.5;
        /// How long before its end a token counts as expired; never more than a tenth of its life.
        /// Default: 10 seconds.
        expiry_margin: Duration = Duration::from_secs(10);
        /// The cache cuts a longer lifetime to this. Default: 365 days.
        max_lifetime: Duration = YEAR;
        /// The shortest time between two background fetches. Default: 1 second.
        background_interval: Duration = SECOND;
        /// How many times one fetch may call the source, 1 to 10. Default: 3.
        attempts: u32 = 3;
        /// The jitter of the pauses between attempts and of the cooldowns: each is shortened by a
        /// random part of itself, up to this share. Default: 0.2.
        pause_jitter: f64 = 0.2;
        /// The longest cooldown after transient failures while there is no usable token; while there
        /// is one it may be four times as long. The first is 1 second (or this, if it is less), and
        /// it doubles. Default: 15 seconds.
        cooldown_max: Duration = Duration::from_secs(15);
    }
    derived {
        /// How long one call of the source may take. Default: what the source
        /// [suggests](crate::TokenSource::attempt_timeout), else 10 seconds; never more than
        /// [`fetch_timeout`](Self::fetch_timeout).
        attempt_timeout;
        /// How long a flight may take, all attempts and pauses together. Default: 30 seconds, or one
        /// attempt if that may take longer.
        fetch_timeout;
        /// How long a token lives if neither it nor its source says. Default: until it is rejected.
        default_lifetime;
        /// How long a caller waits for a token, at most. The flight goes on after that. Default:
        /// the fetch timeout plus one second, so 31 seconds if you set neither.
        max_wait;
    }
}

/// Builds a [`RefreshPolicy`]. A number that you do not set keeps its default.
///
/// No duration may be longer than ten years, and none but
/// [`background_interval`](Self::background_interval) and [`expiry_margin`](Self::expiry_margin)
/// may be zero. A share is a number from 0 to 1.
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
    /// Sets whether the cache keeps a token without traffic too. It fetches the first one when it
    /// is made, refreshes each one when it is due, and after a failure tries again when the source
    /// has cooled down, until the last handle is dropped. Default: no; an idle cache fetches
    /// nothing.
    ///
    /// [`TokenCache::keep_warm`](crate::TokenCache::keep_warm) does the same from its call on.
    ///
    /// A service that reports itself ready only while it has a token needs this: traffic, which
    /// would fetch one, comes only when the service is ready. Keeping warm takes a tokio runtime.
    /// If there is none when the cache is made, the cache starts when you ask it for anything on
    /// one (its [status](crate::TokenCache::status) is enough).
    pub fn keep_warm(mut self, keep_warm: bool) -> Self {
        self.policy.keep_warm = keep_warm;
        self
    }

    /// Checks every number.
    ///
    /// # Errors
    ///
    /// [`InvalidPolicy`] names the first field that is out of its range or contradicts another one.
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

    /// The policy, with what a source suggests where the user set nothing.
    pub(super) fn for_source(mut self, suggested: Option<Duration>) -> Self {
        let suggested = suggested.map(|timeout| timeout.clamp(Duration::from_millis(1), LONGEST));
        let attempt = self.attempt_timeout.or(suggested).unwrap_or(ATTEMPT_TIMEOUT);
        let fetch = self.fetch_timeout.unwrap_or(FETCH_TIMEOUT.max(attempt));
        self.attempt_timeout = Some(attempt.min(fetch));
        self.fetch_timeout = Some(fetch);
        self
    }

    /// The policy to be kept. Most caches have the default one, and share it.
    pub(super) fn shared(self) -> Arc<Self> {
        static DEFAULT: LazyLock<Arc<RefreshPolicy>> =
            LazyLock::new(|| Arc::new(RefreshPolicy::default().for_source(None)));
        if self == **DEFAULT { Arc::clone(&DEFAULT) } else { Arc::new(self) }
    }

    /// How long one call of the source may take.
    pub(super) fn attempt_limit(&self) -> Duration {
        self.attempt_timeout.unwrap_or(ATTEMPT_TIMEOUT)
    }

    /// How long all attempts of a flight may take.
    pub(super) fn fetch_limit(&self) -> Duration {
        self.fetch_timeout.unwrap_or(FETCH_TIMEOUT)
    }

    /// After how long a flight counts as lost.
    pub(super) fn flight_limit(&self) -> Duration {
        self.fetch_limit().saturating_add(LOST_AFTER)
    }

    /// How long a caller waits, at most.
    pub(super) fn wait_limit(&self) -> Duration {
        self.max_wait.unwrap_or_else(|| self.flight_limit())
    }

    /// How long a token lives whose fetch began at `called`; `None`: until it is rejected.
    pub(super) fn life(&self, token: &AccessToken, called: SystemTime) -> Option<Duration> {
        let absolute = || Some(token.expiry()?.duration_since(called).unwrap_or_default());
        token
            .lifetime()
            .map(unrounded)
            .or_else(absolute)
            .or(self.default_lifetime)
            .map(|life| life.min(self.max_lifetime))
    }

    /// The dates of a token whose fetch began at `called` and that lives for `life`. `said` is when
    /// it is due, if the token says so.
    pub(super) fn dates(
        &self,
        called: Instant,
        life: Duration,
        said: Option<Duration>,
        random: f64,
    ) -> Dates {
        let margin = self.expiry_margin.min(life.mul_f64(EXPIRY_MARGIN_SHARE));
        let expired = life.saturating_sub(margin);
        let due = match said.filter(|said| *said < expired) {
            Some(said) => self.due_as_said(said, expired, random),
            None => life.saturating_sub(self.due_window(life, random)),
        };
        Dates { due: called.later(due), expired: called.later(expired), end: called.later(life) }
    }

    /// How long before its end a token is due, if it does not say so itself.
    fn due_window(&self, life: Duration, random: f64) -> Duration {
        let window = DUE_MAX.min(life.mul_f64(self.due_share));
        window.mul_f64(1.0 + self.due_jitter * random)
    }

    /// When a token is due that says so itself. The jitter makes it later: a fetch before that time
    /// may get the old token again.
    fn due_as_said(&self, said: Duration, expired: Duration, random: f64) -> Duration {
        let window = DUE_MAX.min(expired.saturating_sub(said));
        let due = said.saturating_add(window.mul_f64(self.due_jitter * random));
        due.max(self.background_interval).min(expired)
    }

    /// After how long a token whose fetch began at `called` is due, if it says so itself. A date
    /// that had passed by then does not count: with a wall clock that is ahead, every token would
    /// be due.
    pub(super) fn said_due(token: &AccessToken, called: SystemTime) -> Option<Duration> {
        let absolute = || token.refresh_on()?.duration_since(called).ok();
        token.refresh_in().or_else(absolute)
    }

    /// The pause before the next attempt of a flight; `None` if there is no other attempt.
    pub(super) fn pause(&self, made: u32, error: &TokenError, random: f64) -> Option<Duration> {
        let asked = error.retry_after().unwrap_or_default();
        if made >= self.attempts || !error.is_transient() || asked > RETRY_AFTER_WAIT {
            return None;
        }
        Some(self.jittered(doubling(PAUSE, made), random).max(asked))
    }

    /// The cooldown after the nth failure of a kind in a row: without and with a usable token.
    pub(super) fn cooldowns(
        &self,
        nth: u32,
        error: &TokenError,
        random: f64,
    ) -> (Duration, Duration) {
        let asked = error.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX);
        let cooldown = |range| self.jittered(doubling(range, nth), random).max(asked);
        if !error.is_transient() {
            let cooldown = cooldown(PERMANENT_COOLDOWN);
            return (cooldown, cooldown);
        }
        if asked > RETRY_AFTER_WAIT {
            return (asked, asked);
        }
        let max = self.cooldown_max;
        (
            cooldown((COOLDOWN.min(max), max)),
            cooldown((COOLDOWN.min(max), max.saturating_mul(COOLDOWN_WITH_TOKEN))),
        )
    }

    fn jittered(&self, pause: Duration, random: f64) -> Duration {
        pause.mul_f64(1.0 - self.pause_jitter * random)
    }

    fn check_ranges(&self) -> Result<(), InvalidPolicy> {
        for (field, share) in [
            ("due_share", self.due_share),
            ("due_jitter", self.due_jitter),
            ("pause_jitter", self.pause_jitter),
        ] {
            InvalidPolicy::unless((0.0..=1.0).contains(&share), field, "must be from 0 to 1")?;
        }
        let set = |duration: Option<Duration>| duration.unwrap_or(SECOND);
        for (field, duration, zero) in [
            ("expiry_margin", self.expiry_margin, true),
            ("max_lifetime", self.max_lifetime, false),
            ("background_interval", self.background_interval, true),
            ("cooldown_max", self.cooldown_max, false),
            ("attempt_timeout", set(self.attempt_timeout), false),
            ("fetch_timeout", set(self.fetch_timeout), false),
            ("default_lifetime", set(self.default_lifetime), false),
            ("max_wait", set(self.max_wait), false),
        ] {
            InvalidPolicy::unless(duration <= LONGEST, field, "must be ten years at most")?;
            InvalidPolicy::unless(zero || !duration.is_zero(), field, "must not be zero")?;
        }
        InvalidPolicy::unless((1..=10).contains(&self.attempts), "attempts", "must be from 1 to 10")
    }

    fn check_pairs(&self) -> Result<(), InvalidPolicy> {
        InvalidPolicy::unless(
            self.due_share * (1.0 + self.due_jitter) < 1.0,
            "due_share",
            "makes every token due at once, with `due_jitter` added",
        )?;
        InvalidPolicy::unless(
            self.attempt_timeout.unwrap_or_default() <= self.fetch_timeout.unwrap_or(LONGEST),
            "attempt_timeout",
            "must not be longer than `fetch_timeout`",
        )?;
        InvalidPolicy::unless(
            self.default_lifetime.unwrap_or_default() <= self.max_lifetime,
            "default_lifetime",
            "must not be longer than `max_lifetime`",
        )
    }
}

/// How long an origin's next renewal waits after its nth rejection of a token that was unproven
/// there.
pub(super) fn renewal_backoff(nth: u32) -> Duration {
    doubling(RENEWAL_BACKOFF, nth)
}

fn unrounded(lifetime: Duration) -> Duration {
    if lifetime.subsec_nanos() == 0 {
        lifetime.saturating_sub(LIFETIME_ROUNDING).max(lifetime / 2)
    } else {
        lifetime
    }
}

// ===== impl Dates =====

/// The dates in the life of a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dates {
    pub(super) due: Instant,
    /// From then on the token is not used: a margin before the end.
    pub(super) expired: Instant,
    end: Instant,
}

impl Dates {
    /// If a refresh brought no later end, the next one waits for half of what is left.
    pub(super) fn wait_if_nothing_was_gained(&mut self, before: Option<Self>, now: Instant) {
        // The end may come from wall-clock time, which is not steady.
        let tolerance = SECOND / 10;
        let nothing_gained = before
            .is_some_and(|before| now < before.end && self.end <= before.end.later(tolerance));
        if nothing_gained {
            self.due = self.due.max(now.later(self.end.saturating_duration_since(now) / 2));
        }
    }
}

/// The first of the range, doubled for each one after the first, up to the last.
fn doubling((min, max): (Duration, Duration), nth: u32) -> Duration {
    let factor = 2_u32.saturating_pow(nth.saturating_sub(1));
    min.saturating_mul(factor).min(max)
}

// ===== impl InvalidPolicy =====

/// A number of a [`RefreshPolicy`], or of another setting of a cache, that is out of its range or
/// contradicts another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {of}'s `{field}` {problem}")]
pub struct InvalidPolicy {
    of: &'static str,
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
        if right { Ok(()) } else { Err(Self { of: "refresh policy", field, problem }) }
    }

    /// An error about a setting of a keyed cache.
    #[cfg(feature = "keyed")]
    pub(super) fn if_zero(is_zero: bool, field: &'static str) -> Result<(), Self> {
        let problem = "must not be zero";
        if is_zero { Err(Self { of: "keyed token cache", field, problem }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
