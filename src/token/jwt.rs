//! The `exp` of a JSON Web Token (RFC 7519 §4.1.4): read as a hint, never verified.
//!
//! Only a number with the name `exp` at the top level of the payload matters, so this module looks
//! for just that: a full JSON parser would be a dependency that a plain user does not need.

use std::time::{Duration, SystemTime};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// A payload longer than this (in base64 characters) is not read.
const MAX_PAYLOAD: usize = 64 * 1024;

/// When the token expires, if it is a JWT that says so. An `exp` of zero means no end.
pub(super) fn expiry(token: &str) -> Option<SystemTime> {
    let mut parts = token.split('.');
    let (header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || payload.len() > MAX_PAYLOAD || !header.starts_with("ey") {
        return None;
    }
    let payload = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?);
    let said = number_member(&payload, b"exp").filter(|seconds| *seconds > 0.0)?;
    let seconds = Duration::try_from_secs_f64(said).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(seconds)
}

/// The number with the name `name` at the top level of a JSON object.
fn number_member(mut json: &[u8], name: &[u8]) -> Option<f64> {
    let mut depth = 0_usize;
    while let Some((first, after)) = json.split_first() {
        json = after;
        match first {
            b'{' | b'[' => depth = depth.checked_add(1)?,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b'"' => {
                let (string, after) = string(after)?;
                json = after;
                let is_name = depth == 1 && string == name;
                if let (true, Some(value)) = (is_name, after_colon(after)) {
                    return number(value);
                }
            }
            _ => {}
        }
    }
    None
}

/// The string whose opening quote has been read, and what follows its closing quote.
fn string(json: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut bytes = json.iter();
    loop {
        match bytes.next()? {
            b'"' => break,
            b'\\' => drop(bytes.next()?),
            _ => {}
        }
    }
    let after = bytes.as_slice();
    let end = json.len().checked_sub(after.len())?.checked_sub(1)?;
    Some((json.get(..end)?, after))
}

fn after_colon(json: &[u8]) -> Option<&[u8]> {
    Some(json.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start())
}

fn number(json: &[u8]) -> Option<f64> {
    let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    let number = json.split(|byte| !is_part(byte)).next()?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(payload: &str) -> String {
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", encode(r#"{"alg":"RS256"}"#), encode(payload))
    }

    fn exp(payload: &str) -> Option<f64> {
        let since = expiry(&jwt(payload))?.duration_since(SystemTime::UNIX_EPOCH);
        Some(since.unwrap().as_secs_f64())
    }

    #[test]
    fn the_exp_at_the_top_is_found_and_no_other() {
        assert_eq!(exp(r#"{"exp":1700000000}"#), Some(1_700_000_000.0));
        assert_eq!(exp(r#"{ "a" : [1,{"exp":1}], "exp" : 5.5 }"#), Some(5.5));
        assert_eq!(exp(r#"{"a":"\"exp\":1","exp":2}"#), Some(2.0));
        assert_eq!(exp(r#"{"a":"exp","exp":1.7e9}"#), Some(1_700_000_000.0));
        assert_eq!(exp(r#"{"a":"\"","exp":3}"#), Some(3.0));
        assert_eq!(exp(r#"{"a":{"exp":1}}"#), None);
    }

    /// A search whose time is quadratic would take minutes.
    #[test]
    fn a_payload_of_many_strings_takes_linear_time() {
        let strings = r#""","#.repeat(1 << 22);
        let payload = format!(r#"{{"a":[{strings}0],"exp":1}}"#);
        assert_eq!(number_member(payload.as_bytes(), b"exp"), Some(1.0));
    }

    #[test]
    fn the_longest_payload_is_looked_into_and_a_longer_one_is_not() {
        // Three bytes are four characters.
        let longest = 64 * 1024 / 4 * 3;
        let of_length = |length| format!("{:<length$}", r#"{"exp":1}"#);
        assert_eq!(exp(&of_length(longest)), Some(1.0));
        assert_eq!(exp(&of_length(longest + 1)), None);
    }

    #[test]
    fn what_is_no_jwt_or_has_no_sane_exp_says_nothing() {
        for payload in [
            r#"{"exp":-1}"#,
            r#"{"exp":0}"#,
            r#"{"exp":1e300}"#,
            r#"{"exp":"soon"}"#,
            r#"{"exp":null}"#,
            r#"{"exp"}"#,
            r#"{"exp":"#,
            r#"{"exp"#,
            r#"}{"exp":1}"#,
            "\"\\",
            "[]",
            "",
        ] {
            assert_eq!(exp(payload), None, "{payload}");
        }
        for token in ["opaque", "a.b", "a.b.c", "ey.%.c", "ey.b.c.d.e", "..", "ey..x"] {
            assert_eq!(expiry(token), None, "{token}");
        }
        assert_eq!(
            expiry(&jwt(&format!("{{\"a\":\"{}\",\"exp\":1}}", "x".repeat(MAX_PAYLOAD)))),
            None
        );
    }
}
