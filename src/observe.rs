//! Observability: events (feature `tracing`) and metrics (feature `metrics`).
//!
//! The guide has the two tables. Nothing here sees a secret, nothing here is
//! called under a lock, and labels come from closed sets: names and origins that were
//! configured, words that stand in `names`.

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

/// The crate's own name, not that of a private module.
#[cfg(feature = "tracing")]
const TARGET: &str = "tower_bearer";

// ===== Flights =====

/// A future that runs in a span of its own: a flight belongs to nobody who asked.
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

/// One attempt of a flight has failed, and another follows.
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

/// A flight has ended. `cooldown`: how long nothing is fetched then.
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

/// A flight has brought a token after so many that did not, the first of them so long ago.
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

/// What a token endpoint said instead of a token: a known code, or `other`.
#[cfg(feature = "oauth2")]
pub(crate) fn endpoint_error(source: &Label, code: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!(names::ENDPOINT_ERRORS, "source" => source.value(), "error" => code)
        .increment(1);
}

/// The metadata of an issuer could not be read anew: those that were read last serve.
#[cfg(feature = "oauth2")]
pub(crate) fn metadata_not_read(source: &Label, error: &dyn std::fmt::Display) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: TARGET,
        source = source.text(),
        %error,
        "the metadata of the issuer could not be read anew"
    );
}

// ===== A fleet's store =====

/// The store of a fleet does not answer, and did before.
#[cfg(feature = "shared")]
pub(crate) fn store_away(source: &Label, error: &dyn std::fmt::Display) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: TARGET,
        source = source.text(),
        %error,
        "the store that the fleet shares its token by does not answer"
    );
}

/// The store of a fleet answers again.
#[cfg(feature = "shared")]
pub(crate) fn store_back(source: &Label) {
    #[cfg(feature = "tracing")]
    tracing::info!(
        target: TARGET,
        source = source.text(),
        "the store that the fleet shares its token by answers again"
    );
}

/// What a store holds is no record of this fleet, and is going to be replaced.
#[cfg(feature = "shared")]
pub(crate) fn record_ignored(source: &Label, reason: &dyn std::fmt::Display) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: TARGET,
        source = source.text(),
        %reason,
        "what the store holds in the place of the fleet's token is ignored and replaced"
    );
}

// ===== Refresh tokens =====

/// The work of a task that a fetch has spawned: what its transport logs belongs to that fetch.
#[cfg(all(any(feature = "oauth2", feature = "shared"), feature = "tracing"))]
pub(crate) fn in_current_span<F: Future>(work: F) -> impl Future<Output = F::Output> {
    tracing::Instrument::in_current_span(work)
}

#[cfg(all(any(feature = "oauth2", feature = "shared"), not(feature = "tracing")))]
pub(crate) fn in_current_span<F: Future>(work: F) -> impl Future<Output = F::Output> {
    work
}

/// The hook for new refresh tokens has been running for so long, and has not ended.
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

/// A token is used that has so much left, if it ever expires.
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

/// As the macros do it, but for the key of the number, which would take an allocation each time.
#[cfg(feature = "metrics")]
static METADATA: metrics::Metadata<'static> =
    metrics::Metadata::new(module_path!(), metrics::Level::INFO, Some(module_path!()));

#[cfg(feature = "metrics")]
fn count_one(number: &metrics::Key) {
    metrics::with_recorder(|recorder| recorder.register_counter(number, &METADATA).increment(1));
}

// ===== Keys =====

/// The entry of a key was there.
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

/// So many keys have an entry now.
#[cfg(feature = "keyed")]
pub(crate) fn keys(source: &Label, len: usize) {
    #[cfg(feature = "metrics")]
    #[expect(clippy::cast_precision_loss, reason = "nobody has so many")]
    metrics::gauge!(names::KEYS, "source" => source.value()).set(len as f64);
}

/// An entry has gone.
#[cfg(feature = "keyed")]
pub(crate) fn key_evicted(source: &Label, reason: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!(names::KEY_EVICTIONS, "source" => source.value(), "reason" => reason)
        .increment(1);
}

// ===== Rejections =====

/// A token was rejected, and another one is wanted.
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

/// An origin has rejected a renewed token that it never accepted: its next renewal waits.
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

/// An origin has accepted a token that was renewed because it had rejected the one before; or,
/// after so many renewal backoffs, any token.
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

/// A request that was sent again has come to its end. `named`: its origin, if that was
/// configured and so may be a label.
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

/// A request was not sent, because no token may go where it goes: so it is about no source.
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
