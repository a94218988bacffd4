//! Observability: events (feature `tracing`) and metrics (feature `metrics`).
//!
//! The guide has the two tables. Nothing here sees a secret, nothing here is
//! called under a lock, and labels come from closed sets: origins that were configured, names
//! that stand below.

#![cfg_attr(
    not(all(feature = "tracing", feature = "metrics")),
    expect(unused_variables, reason = "each feature looks at other things")
)]

use std::time::Duration;

use crate::{
    error::{Refused, TokenError},
    origin::Origin,
};

/// The crate's own name, not that of a private module.
#[cfg(feature = "tracing")]
const TARGET: &str = "tower_bearer";

// ===== Flights =====

/// A future that runs in a span of its own: a flight belongs to nobody who asked.
#[cfg(feature = "tracing")]
pub(crate) fn flight<F: Future>(
    reason: &'static str,
    flight: F,
) -> impl Future<Output = F::Output> {
    use tracing::Instrument;

    let span = tracing::debug_span!(target: TARGET, parent: None, "fetch", reason);
    span.follows_from(tracing::Span::current());
    let started = || tracing::debug!(target: TARGET, reason, "fetching an access token");
    span.in_scope(started);
    flight.instrument(span)
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn flight<F: Future>(_: &'static str, flight: F) -> impl Future<Output = F::Output> {
    flight
}

/// One attempt of a flight has failed, and another follows.
pub(crate) fn attempt_failed(error: &TokenError, attempt: u32, pause: Duration) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: TARGET, %error, attempt, next_in = ?pause, "an attempt failed");
}

/// A flight has ended. `cooldown`: how long nothing is fetched then.
pub(crate) fn finished(
    reason: &'static str,
    took: Duration,
    error: Option<&TokenError>,
    cooldown: Option<Duration>,
) {
    #[cfg(feature = "tracing")]
    match error {
        None => tracing::debug!(target: TARGET, reason, ?took, "fetched an access token"),
        Some(error) => tracing::warn!(
            target: TARGET,
            reason,
            ?took,
            %error,
            transient = error.is_transient(),
            next_in = ?cooldown.unwrap_or_default(),
            "no access token could be fetched"
        ),
    }
    #[cfg(feature = "metrics")]
    {
        let outcome = names::outcome(error);
        metrics::counter!(names::FETCHES, "reason" => reason, "outcome" => outcome).increment(1);
        metrics::histogram!(names::FETCH_SECONDS, "reason" => reason).record(took);
    }
}

/// What a token endpoint said instead of a token: a known code, or `other`.
#[cfg(feature = "oauth2")]
pub(crate) fn endpoint_error(code: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!(names::ENDPOINT_ERRORS, "error" => code).increment(1);
}

// ===== Refresh tokens =====

/// The work of a task that a fetch has spawned: what its transport logs belongs to that fetch.
#[cfg(all(feature = "oauth2", feature = "tracing"))]
pub(crate) fn in_current_span<F: Future>(work: F) -> impl Future<Output = F::Output> {
    tracing::Instrument::in_current_span(work)
}

#[cfg(all(feature = "oauth2", not(feature = "tracing")))]
pub(crate) fn in_current_span<F: Future>(work: F) -> impl Future<Output = F::Output> {
    work
}

/// The hook for new refresh tokens has been running for so long, and has not ended.
#[cfg(feature = "oauth2")]
pub(crate) fn hook_hangs(running_for: Duration) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: TARGET,
        ?running_for,
        "the hook for new refresh tokens does not end: until it does, the newest is not stored"
    );
}

// ===== Tokens =====

/// A caller waits for a flight that another caller started.
pub(crate) fn shared_a_flight() {
    #[cfg(feature = "metrics")]
    metrics::counter!(names::SHARED_WAITS).increment(1);
}

/// A caller has waited for a flight.
#[cfg(feature = "metrics")]
pub(crate) fn waited(time: Duration) {
    metrics::histogram!(names::WAIT_SECONDS).record(time);
}

/// A token is used that has so much left, if it ever expires.
#[inline]
pub(crate) fn used(is_suspect: bool, left: impl FnOnce() -> Option<Duration>) {
    #[cfg(feature = "metrics")]
    {
        if is_suspect {
            metrics::counter!(names::SUSPECT_USES).increment(1);
        }
        if let Some(left) = left() {
            metrics::histogram!(names::SECONDS_LEFT).record(left);
        }
    }
}

// ===== Keys =====

/// The entry of a key was there.
#[cfg(feature = "keyed")]
#[inline]
pub(crate) fn key_found() {
    #[cfg(feature = "metrics")]
    metrics::counter!(names::KEY_HITS).increment(1);
}

/// A key had no entry.
#[cfg(feature = "keyed")]
pub(crate) fn key_missed() {
    #[cfg(feature = "metrics")]
    metrics::counter!(names::KEY_MISSES).increment(1);
}

/// So many keys have an entry now.
#[cfg(feature = "keyed")]
pub(crate) fn keys(len: usize) {
    #[cfg(feature = "metrics")]
    #[expect(clippy::cast_precision_loss, reason = "nobody has so many")]
    metrics::gauge!(names::KEYS).set(len as f64);
}

/// An entry has gone.
#[cfg(feature = "keyed")]
pub(crate) fn key_evicted(reason: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!(names::KEY_EVICTIONS, "reason" => reason).increment(1);
}

// ===== Rejections =====

/// A token was rejected, and another one is wanted.
pub(crate) fn renewing(origin: Option<&Origin>) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: TARGET, origin = %shown(origin), "an access token was rejected");
    #[cfg(feature = "metrics")]
    metrics::counter!(names::REJECTIONS).increment(1);
}

/// A rejected token is not replaced: the rejection is the answer.
pub(crate) fn renewal_failed(error: &TokenError) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TARGET, %error, "a rejected access token was not renewed");
    #[cfg(feature = "metrics")]
    metrics::counter!(names::FAILED_RENEWALS).increment(1);
}

/// An origin has rejected a renewed token that it never accepted: its next renewal waits.
pub(crate) fn backed_off(origin: Option<&Origin>, nth: u32, pause: Duration) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: TARGET,
        origin = %shown(origin),
        nth,
        next_in = ?pause,
        "an origin rejects fresh access tokens"
    );
    #[cfg(feature = "metrics")]
    metrics::counter!(names::RENEWAL_BACKOFFS).increment(1);
}

/// What became of a request that was sent again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Replay {
    Answered,
    Rejected,
    Failed,
}

/// A rejected request is sent again.
pub(crate) fn replaying(origin: &Origin) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: TARGET, %origin, "sending a rejected request again");
}

/// A request that was sent again has come to its end. `named`: its origin, if that was
/// configured and so may be a label.
pub(crate) fn replayed(named: Option<&Origin>, outcome: Replay) {
    #[cfg(feature = "metrics")]
    {
        let origin = named.map_or_else(|| "other".into(), ToString::to_string);
        let outcome = names::replay(outcome);
        metrics::counter!(names::REPLAYS, "origin" => origin, "outcome" => outcome).increment(1);
    }
}

/// A request was not sent, because no token may go where it goes.
pub(crate) fn refused(refused: &Refused) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TARGET, reason = %refused, "a request was refused");
    #[cfg(feature = "metrics")]
    metrics::counter!(names::REFUSALS, "reason" => names::refusal(refused)).increment(1);
}

#[cfg(feature = "tracing")]
fn shown(origin: Option<&Origin>) -> impl std::fmt::Display {
    origin.map_or_else(|| "unknown".to_owned(), ToString::to_string)
}

// ===== Names =====

/// Tells the metrics recorder what each number is, and in which unit.
///
/// Call it once, after the recorder was installed; an exporter then has a help text for each.
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub fn describe_metrics() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

    for (name, text) in names::COUNTERS {
        describe_counter!(name, Unit::Count, text);
    }
    describe_gauge!(names::KEYS, Unit::Count, "Token keys that have an entry");
    for (name, text) in names::HISTOGRAMS {
        describe_histogram!(name, Unit::Seconds, text);
    }
}

#[cfg(feature = "metrics")]
mod names {
    use super::{Refused, Replay, TokenError};
    use crate::error::CacheError;

    pub(super) const FETCHES: &str = "tower_bearer_fetches_total";
    pub(super) const ENDPOINT_ERRORS: &str = "tower_bearer_endpoint_errors_total";
    pub(super) const SHARED_WAITS: &str = "tower_bearer_shared_waits_total";
    pub(super) const SUSPECT_USES: &str = "tower_bearer_suspect_uses_total";
    pub(super) const REJECTIONS: &str = "tower_bearer_rejections_total";
    pub(super) const FAILED_RENEWALS: &str = "tower_bearer_failed_renewals_total";
    pub(super) const RENEWAL_BACKOFFS: &str = "tower_bearer_renewal_backoffs_total";
    pub(super) const REPLAYS: &str = "tower_bearer_replays_total";
    pub(super) const REFUSALS: &str = "tower_bearer_refusals_total";
    pub(super) const KEY_HITS: &str = "tower_bearer_key_hits_total";
    pub(super) const KEY_MISSES: &str = "tower_bearer_key_misses_total";
    pub(super) const KEY_EVICTIONS: &str = "tower_bearer_key_evictions_total";
    pub(super) const KEYS: &str = "tower_bearer_keys";
    pub(super) const FETCH_SECONDS: &str = "tower_bearer_fetch_seconds";
    pub(super) const WAIT_SECONDS: &str = "tower_bearer_wait_seconds";
    pub(super) const SECONDS_LEFT: &str = "tower_bearer_token_left_seconds";

    pub(super) const COUNTERS: [(&str, &str); 12] = [
        (FETCHES, "Flights, by reason and outcome"),
        (ENDPOINT_ERRORS, "Answers of token endpoints that brought no token, by error"),
        (SHARED_WAITS, "Callers that waited for a flight which another had started"),
        (SUSPECT_USES, "Uses of a token that had been rejected and could not be replaced"),
        (REJECTIONS, "Tokens that an API rejected, as requests saw it"),
        (FAILED_RENEWALS, "Rejections after which no other token could be had"),
        (
            RENEWAL_BACKOFFS,
            "Renewal backoffs: an origin rejected a renewed token that it never accepted",
        ),
        (REPLAYS, "Requests that were sent again, by origin and outcome"),
        (REFUSALS, "Requests that were not sent because no token may go there, by reason"),
        (KEY_HITS, "Look-ups of token keys that had an entry"),
        (KEY_MISSES, "Look-ups of token keys that had no entry"),
        (KEY_EVICTIONS, "Entries of token keys that have gone, by reason"),
    ];

    pub(super) const HISTOGRAMS: [(&str, &str); 3] = [
        (FETCH_SECONDS, "How long flights took, by reason"),
        (WAIT_SECONDS, "How long callers waited for a token"),
        (SECONDS_LEFT, "How much of its life a token had left when it was used"),
    ];

    pub(super) fn outcome(error: Option<&TokenError>) -> &'static str {
        match (error, error.and_then(TokenError::downcast_ref::<CacheError>)) {
            (None, _) => "ok",
            (_, Some(CacheError::SameToken)) => "same_token",
            (_, Some(CacheError::FlightLost | CacheError::SourcePanicked)) => "lost",
            (Some(error), _) if error.is_transient() => "transient",
            _ => "permanent",
        }
    }

    pub(super) fn replay(outcome: Replay) -> &'static str {
        match outcome {
            Replay::Answered => "answered",
            Replay::Rejected => "rejected",
            Replay::Failed => "failed",
        }
    }

    pub(super) fn refusal(refused: &Refused) -> &'static str {
        match refused {
            Refused::NotNamed(_) => "not_named",
            Refused::Plaintext(_) => "plaintext",
            Refused::NoOrigin => "no_origin",
            #[cfg(feature = "keyed")]
            Refused::NoSubject => "no_subject",
            #[cfg(feature = "keyed")]
            Refused::SubjectExpired => "subject_expired",
            #[cfg(feature = "keyed")]
            Refused::UnexpectedKey => "unexpected_key",
            #[cfg(feature = "keyed")]
            Refused::InvalidKey(_) => "invalid_key",
        }
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use super::*;
    use crate::error::CacheError;

    #[test]
    fn each_outcome_of_a_flight_has_its_name() {
        let name = |error: TokenError| names::outcome(Some(&error));
        assert_eq!(names::outcome(None), "ok");
        assert_eq!(name(CacheError::SameToken.into()), "same_token");
        assert_eq!(name(CacheError::FlightLost.into()), "lost");
        assert_eq!(name(CacheError::SourcePanicked.into()), "lost");
        assert_eq!(name(CacheError::FetchTimeout(Duration::ZERO).into()), "transient");
        assert_eq!(name(TokenError::transient("busy")), "transient");
        assert_eq!(name(CacheError::NoRuntime.into()), "permanent");
        assert_eq!(name(TokenError::permanent("no such client")), "permanent");
    }
}
