//! The names of the metrics, and of the values of their labels.

use crate::error::{CacheError, Refused, TokenError};

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
    (ENDPOINT_ERRORS, "Answers of token endpoints without a token, by error"),
    (SHARED_WAITS, "Callers that waited for a flight that another caller had started"),
    (SUSPECT_USES, "Uses of a token that an API had rejected and that was not replaced"),
    (REJECTIONS, "Rejections of tokens by an API, as requests saw them"),
    (FAILED_RENEWALS, "Rejections after which there was no other token"),
    (
        RENEWAL_BACKOFFS,
        "Renewal backoffs: an origin rejected a renewed token that it never accepted",
    ),
    (REPLAYS, "Requests that were sent again, by origin and outcome"),
    (REFUSALS, "Requests that were refused because no token may go with them, by reason"),
    (KEY_HITS, "Look-ups of token keys that had a cache entry"),
    (KEY_MISSES, "Look-ups of token keys that had no cache entry"),
    (KEY_EVICTIONS, "Cache entries of token keys that were dropped, by reason"),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_outcome_of_a_flight_has_its_name() {
        let name = |error: TokenError| outcome(Some(&error));
        assert_eq!(outcome(None), "ok");
        assert_eq!(name(CacheError::SameToken.into()), "same_token");
        assert_eq!(name(CacheError::FlightLost.into()), "lost");
        assert_eq!(name(CacheError::SourcePanicked.into()), "lost");
        assert_eq!(name(CacheError::FetchTimeout(Duration::ZERO).into()), "transient");
        assert_eq!(name(TokenError::transient("busy")), "transient");
        assert_eq!(name(CacheError::NoRuntime.into()), "permanent");
        assert_eq!(name(TokenError::permanent("no such client")), "permanent");
    }
}
