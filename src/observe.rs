//! Observability: events (feature `tracing`) and metrics (feature `metrics`).
//!
//! The guide has a table of each. Nothing here sees a secret, nothing here runs under a lock, and
//! labels come from closed sets: configured names and origins, and the words in `names`.

#![cfg_attr(
    not(all(feature = "tracing", feature = "metrics")),
    expect(unused_variables, reason = "each feature looks at other things")
)]

mod label;
#[cfg(feature = "metrics")]
mod names;

use std::time::Duration;

pub(crate) use self::label::Label;
use crate::{
    error::{Refused, TokenError},
    origin::Origin,
};

/// The crate's name, not that of a private module.
#[cfg(feature = "tracing")]
const TARGET: &str = "tower_bearer";

// ===== Flights =====

/// Runs a future in a span of its own: a flight does not belong to the caller that started it.
#[cfg(feature = "tracing")]
pub(crate) fn flight<F: Future>(
    source: &Label,
    reason: &'static str,
    flight: F,
) -> impl Future<Output = F::Output> + use<F> {
    use tracing::Instrument;

    let source = source.text();
    let span = tracing::debug_span!(target: TARGET, parent: None, "fetch", source, reason);
    span.follows_from(tracing::Span::current());
    let started = || tracing::debug!(target: TARGET, source, reason, "fetching an access token");
    span.in_scope(started);
    flight.instrument(span)
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn flight<F: Future>(
    _: &Label,
    _: &'static str,
    flight: F,
) -> impl Future<Output = F::Output> + use<F> {
    flight
}

/// An attempt of a flight has failed, and another one follows.
pub(crate) fn attempt_failed(source: &Label, error: &TokenError, attempt: u32, pause: Duration) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        target: TARGET,
        source = source.text(),
        error = %error.cause(),
        attempt,
        next_in = ?pause,
        "an attempt failed"
    );
}

/// A flight has ended. `cooldown` says for how long the cache fetches nothing.
pub(crate) fn finished(
    source: &Label,
    reason: &'static str,
    took: Duration,
    error: Option<&TokenError>,
    cooldown: Option<Duration>,
) {
    #[cfg(feature = "tracing")]
    match error {
        None => tracing::debug!(
            target: TARGET,
            source = source.text(),
            reason,
            ?took,
            "fetched an access token"
        ),
        Some(error) => tracing::warn!(
            target: TARGET,
            source = source.text(),
            reason,
            ?took,
            error = %error.cause(),
            transient = error.is_transient(),
            next_in = ?cooldown.unwrap_or_default(),
            "no access token could be fetched"
        ),
    }
    #[cfg(feature = "metrics")]
    {
        let (name, outcome) = (source.value(), names::outcome(error));
        metrics::histogram!(names::FETCH_SECONDS, "source" => name.clone(), "reason" => reason)
            .record(took);
        metrics::counter!(
            names::FETCHES, "source" => name, "reason" => reason, "outcome" => outcome
        )
        .increment(1);
    }
}

/// A flight has returned a token after this many that did not, the first of them this long ago.
pub(crate) fn recovered(source: &Label, failures: u64, failing_for: Duration) {
    #[cfg(feature = "tracing")]
    tracing::info!(
        target: TARGET,
        source = source.text(),
        failures,
        ?failing_for,
        "access tokens can be fetched again"
    );
}

/// The error that a token endpoint returned instead of a token: a known code, or `other`.
#[cfg(feature = "oauth2")]
pub(crate) fn endpoint_error(source: &Label, code: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!(names::ENDPOINT_ERRORS, "source" => source.value(), "error" => code)
        .increment(1);
}

/// An issuer's metadata could not be read again. Those that were read last stay in use.
#[cfg(feature = "oauth2")]
pub(crate) fn metadata_not_read(source: &Label, error: &dyn std::fmt::Display) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: TARGET,
        source = source.text(),
        %error,
        "the issuer's metadata could not be read again"
    );
}

// ===== A fleet's store =====

/// The store of a fleet has stopped answering.
#[cfg(feature = "shared")]
pub(crate) fn store_away(source: &Label, error: &dyn std::fmt::Display) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: TARGET,
        source = source.text(),
        %error,
        "the fleet's token store does not answer"
    );
}

/// The store of a fleet answers again.
#[cfg(feature = "shared")]
pub(crate) fn store_back(source: &Label) {
    #[cfg(feature = "tracing")]
    tracing::info!(
        target: TARGET,
        source = source.text(),
        "the fleet's token store answers again"
    );
}

/// A store holds something that is not a record of this fleet. The fleet will replace it.
#[cfg(feature = "shared")]
pub(crate) fn record_ignored(source: &Label, reason: &dyn std::fmt::Display) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: TARGET,
        source = source.text(),
        %reason,
        "the fleet's token store holds no valid token: its content is ignored and replaced"
    );
}

// ===== Refresh tokens =====

/// Runs a task that a fetch has spawned in the fetch's span: what its transport logs belongs there.
#[cfg(all(any(feature = "oauth2", feature = "shared"), feature = "tracing"))]
pub(crate) fn in_current_span<F: Future>(work: F) -> impl Future<Output = F::Output> {
    tracing::Instrument::in_current_span(work)
}

#[cfg(all(any(feature = "oauth2", feature = "shared"), not(feature = "tracing")))]
pub(crate) fn in_current_span<F: Future>(work: F) -> impl Future<Output = F::Output> {
    work
}

/// The hook for new refresh tokens has been running for this long, and has not ended.
#[cfg(feature = "oauth2")]
pub(crate) fn hook_hangs(source: &Label, running_for: Duration) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: TARGET,
        source = source.text(),
        ?running_for,
        "the hook for new refresh tokens does not end: until it does, the newest is not stored"
    );
}

/// That hook has ended after all.
#[cfg(feature = "oauth2")]
pub(crate) fn hook_ended(source: &Label, took: Duration) {
    #[cfg(feature = "tracing")]
    tracing::info!(
        target: TARGET,
        source = source.text(),
        ?took,
        "the hook for new refresh tokens has ended"
    );
}

// ===== Tokens =====

/// A caller waits for a flight that another caller started.
pub(crate) fn shared_a_flight(source: &Label) {
    #[cfg(feature = "metrics")]
    metrics::counter!(names::SHARED_WAITS, "source" => source.value()).increment(1);
}

/// A caller has waited for a flight.
#[cfg(feature = "metrics")]
pub(crate) fn waited(source: &Label, time: Duration) {
    metrics::histogram!(names::WAIT_SECONDS, "source" => source.value()).record(time);
}

/// A token is used that has this much of its life left, if it ever expires.
#[inline]
pub(crate) fn used<'a>(
    source: impl FnOnce() -> &'a Label,
    is_suspect: bool,
    left: impl FnOnce() -> Option<Duration>,
) {
    #[cfg(feature = "metrics")]
    {
        let source = source();
        if is_suspect {
            count_one(source.suspect_uses());
        }
        if let Some(left) = left() {
            metrics::with_recorder(|recorder| {
                recorder.register_histogram(source.seconds_left(), &METADATA).record(left);
            });
        }
    }
}

/// Does what the macros do, without the allocation that they need for the metric's key.
#[cfg(feature = "metrics")]
static METADATA: metrics::Metadata<'static> =
    metrics::Metadata::new(module_path!(), metrics::Level::INFO, Some(module_path!()));

#[cfg(feature = "metrics")]
fn count_one(number: &metrics::Key) {
    metrics::with_recorder(|recorder| recorder.register_counter(number, &METADATA).increment(1));
}

// ===== Keys =====

/// A key had an entry.
#[cfg(feature = "keyed")]
#[inline]
pub(crate) fn key_found(source: &Label) {
    #[cfg(feature = "metrics")]
    count_one(source.key_hits());
}

/// A key had no entry.
#[cfg(feature = "keyed")]
pub(crate) fn key_missed(source: &Label) {
    #[cfg(feature = "metrics")]
    metrics::counter!(names::KEY_MISSES, "source" => source.value()).increment(1);
}

/// This many keys have an entry now.
#[cfg(feature = "keyed")]
pub(crate) fn keys(source: &Label, len: usize) {
    #[cfg(feature = "metrics")]
    #[expect(clippy::cast_precision_loss, reason = "nobody has so many")]
    metrics::gauge!(names::KEYS, "source" => source.value()).set(len as f64);
}

/// An entry was dropped.
#[cfg(feature = "keyed")]
pub(crate) fn key_evicted(source: &Label, reason: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!(names::KEY_EVICTIONS, "source" => source.value(), "reason" => reason)
        .increment(1);
}

// ===== Rejections =====

/// A token was rejected, and a caller wants another one.
pub(crate) fn renewing(source: &Label, origin: Option<&Origin>) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        target: TARGET,
        source = source.text(),
        origin = %shown(origin),
        "an access token was rejected"
    );
    #[cfg(feature = "metrics")]
    metrics::counter!(names::REJECTIONS, "source" => source.value()).increment(1);
}

/// A rejected token is not replaced: the rejection is the answer.
pub(crate) fn renewal_failed(source: &Label, error: &TokenError) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: TARGET,
        source = source.text(),
        error = %error.cause(),
        "a rejected access token was not renewed"
    );
    #[cfg(feature = "metrics")]
    metrics::counter!(names::FAILED_RENEWALS, "source" => source.value()).increment(1);
}

/// An origin rejected a renewed token that it had never accepted. Its next renewal waits.
pub(crate) fn backed_off(source: &Label, origin: Option<&Origin>, nth: u32, pause: Duration) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: TARGET,
        source = source.text(),
        origin = %shown(origin),
        nth,
        next_in = ?pause,
        "an origin rejects fresh access tokens"
    );
    #[cfg(feature = "metrics")]
    metrics::counter!(names::RENEWAL_BACKOFFS, "source" => source.value()).increment(1);
}

/// An origin has accepted the renewed token that replaces one it had rejected; or, after this many
/// renewal backoffs, any token.
pub(crate) fn accepted_again(source: &Label, origin: Option<&Origin>, backoffs: u32) {
    #[cfg(feature = "tracing")]
    {
        let (source, origin) = (source.text(), shown(origin));
        if backoffs == 0 {
            tracing::info!(
                target: TARGET,
                source,
                %origin,
                "a rejected access token was replaced by one that is accepted"
            );
        } else {
            tracing::info!(
                target: TARGET,
                source,
                %origin,
                backoffs,
                "an origin accepts access tokens again"
            );
        }
    }
}

/// What became of a request that was sent again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Replay {
    Answered,
    Rejected,
    Failed,
}

#[cfg(feature = "metrics")]
impl Replay {
    fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

/// A rejected request is sent again.
pub(crate) fn replaying(source: &Label, origin: &Origin) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        target: TARGET,
        source = source.text(),
        %origin,
        "sending a rejected request again"
    );
}

/// A request that was sent again has ended. `named` is its origin, if that was configured and so
/// may be a metric label.
pub(crate) fn replayed(source: &Label, named: Option<&Origin>, outcome: Replay) {
    #[cfg(feature = "metrics")]
    {
        let origin = named.map_or_else(|| "other".into(), ToString::to_string);
        let (name, outcome) = (source.value(), outcome.name());
        metrics::counter!(
            names::REPLAYS, "source" => name, "origin" => origin, "outcome" => outcome
        )
        .increment(1);
    }
}

/// A request was not sent, because no token may go with it. So the event is about no source.
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

/// Gives the metrics recorder the help text and the unit of each metric.
///
/// Call it once, after you have installed the recorder. An exporter then prints the help texts.
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub fn describe_metrics() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

    for (name, text) in names::COUNTERS {
        describe_counter!(name, Unit::Count, text);
    }
    describe_gauge!(names::KEYS, Unit::Count, "Token keys that have a cache entry");
    for (name, text) in names::HISTOGRAMS {
        describe_histogram!(name, Unit::Seconds, text);
    }
}
