//! The lifetime of metadata.

use std::time::Duration;

use http::{HeaderMap, header::CACHE_CONTROL};

/// The bounds keep the cost of readings low, and limit the time until a change is noticed.
pub(super) const MIN: Duration = Duration::from_secs(5 * 60);
const MAX: Duration = Duration::from_secs(24 * 3600);
/// The lifetime if the service names none.
const USUAL: Duration = Duration::from_secs(3600);

/// The `max-age` (RFC 9111 §5.2.2.1), within bounds. Metadata that must not be stored
/// get the shortest lifetime.
pub(super) fn of(headers: &HeaderMap) -> Duration {
    let mut said = None;
    for value in headers.get_all(CACHE_CONTROL) {
        for directive in value.to_str().unwrap_or_default().split(',') {
            let directive = directive.trim().to_ascii_lowercase();
            match directive.split_once('=') {
                None if matches!(&*directive, "no-store" | "no-cache") => return MIN,
                Some(("max-age", age)) => said = seconds(age.trim_matches('"')).or(said),
                _ => {}
            }
        }
    }
    said.unwrap_or(USUAL).clamp(MIN, MAX)
}

fn seconds(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Too many digits for a number: as long as possible.
    Some(text.parse().map_or(MAX, Duration::from_secs))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn max_age_counts_within_bounds() {
        for (value, minutes) in [
            ("max-age=1800", 30),
            ("public, MAX-AGE=1800", 30),
            ("max-age=\"1800\"", 30),
            ("max-age=0", 5),
            ("max-age=99999999999999999999999", 24 * 60),
            ("max-age=172800", 24 * 60),
            ("no-cache, max-age=1800", 5),
            ("no-store", 5),
            ("max-age=-1", 60),
            ("max-age=", 60),
            ("s-maxage=1800", 60),
            ("", 60),
        ] {
            let value = HeaderValue::from_static(value);
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, value.clone())]);
            assert_eq!(of(&headers), Duration::from_secs(minutes * 60), "{value:?}");
        }
        assert_eq!(of(&HeaderMap::new()), USUAL);
    }
}
