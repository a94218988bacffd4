//! `WWW-Authenticate`: whatever an API sends, it is read, within bounds.
#![no_main]

use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};
use libfuzzer_sys::fuzz_target;
use tower_bearer::Challenge;

fuzz_target!(|data: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(line) = HeaderValue::from_bytes(line) {
            headers.append(WWW_AUTHENTICATE, line);
        }
    }
    let challenges = Challenge::from_headers(&headers);
    assert!(challenges.len() <= 32);
    for challenge in &challenges {
        assert!(!challenge.scheme().is_empty());
        assert!(challenge.params().count() <= 32);
        for (name, value) in challenge.params() {
            assert_eq!(challenge.param(name), Some(value), "of a name that comes twice, the first");
        }
    }
});
