//! Detects clock skew that may have caused a service to refuse an assertion.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header::DATE};

/// Describes by how much this machine's clock differs from the service's (RFC 9110 §6.6.1), if that
/// is more than the tolerated skew.
pub(crate) fn skew(headers: &HeaderMap, now: SystemTime, tolerated: Duration) -> Option<String> {
    let theirs = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?.trim()).ok()?;
    let (difference, word) = match now.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(error) => (error.duration(), "behind"),
    };
    (difference > tolerated).then(|| {
        format!(
            "the clock of this machine, which dates the assertion, is {} s {word} the service's \
             (by its `Date`): set the clock",
            difference.as_secs()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_beyond_the_tolerance_is_reported() {
        let theirs = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let headers =
            HeaderMap::from_iter([(DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap())]);
        let (second, life) = (Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(skew(&headers, theirs + life, life), None);
        assert_eq!(skew(&headers, theirs - life, life), None);
        let ahead = skew(&headers, theirs + life + second, life).unwrap();
        assert!(ahead.contains("is 61 s ahead of the service's"), "{ahead}");
        let behind = skew(&headers, theirs - 5 * life, life).unwrap();
        assert!(behind.contains("is 300 s behind the service's"), "{behind}");
        for junk in ["", "soon"] {
            let headers = HeaderMap::from_iter([(DATE, junk.parse().unwrap())]);
            assert_eq!(skew(&headers, theirs, life), None);
        }
        assert_eq!(skew(&HeaderMap::new(), theirs, life), None);
    }
}
