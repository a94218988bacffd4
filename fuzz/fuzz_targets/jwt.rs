//! A token, which may look like a JWT: made or refused, and its expiry read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_bearer::AccessToken;

fuzz_target!(|text: &str| {
    if let Ok(token) = AccessToken::new(text) {
        assert_eq!(token.secret(), text);
        let _ = token.expiry();
    }
});
