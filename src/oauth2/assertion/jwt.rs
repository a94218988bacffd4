//! A JWT that authenticates a client (RFC 7523 §3).

use std::time::{Duration, SystemTime};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{algorithm::SigningAlgorithm, unusable::Unusable};

/// The signature is as secret as the whole assertion.
pub(super) type Signature = Zeroizing<Vec<u8>>;

/// The header.
#[derive(Serialize)]
pub(super) struct Header<'a> {
    pub(super) alg: &'static str,
    pub(super) typ: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kid: Option<&'a str>,
    #[serde(rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    pub(super) thumbprint: Option<String>,
    #[serde(rename = "x5c", skip_serializing_if = "Vec::is_empty")]
    pub(super) chain: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Claims<'a> {
    pub(super) iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sub: Option<&'a str>,
    pub(super) aud: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jti: Option<String>,
    pub(super) iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<u64>,
    pub(super) exp: u64,
}

// ===== impl Header =====

impl<'a> Header<'a> {
    pub(super) fn new(algorithm: SigningAlgorithm, typ: &'a str, kid: Option<&'a str>) -> Self {
        Self { alg: algorithm.as_str(), typ, kid, thumbprint: None, chain: Vec::new() }
    }
}

/// The message to sign.
#[expect(clippy::expect_used, reason = "texts and numbers always serialize")]
pub(super) fn message(header: &Header<'_>, claims: &Claims<'_>) -> String {
    let part = |json: Result<Vec<u8>, _>| {
        BASE64_URL_SAFE_NO_PAD.encode(json.expect("texts and numbers always serialize"))
    };
    format!("{}.{}", part(serde_json::to_vec(header)), part(serde_json::to_vec(claims)))
}

/// The message with its signature.
#[expect(clippy::arithmetic_side_effects, reason = "lengths in memory do not overflow")]
pub(super) fn signed(message: &str, signature: &[u8]) -> Zeroizing<String> {
    // Reserve the whole length: a string that grows leaves copies behind.
    let length = message.len() + 1 + signature.len().div_ceil(3) * 4;
    let mut jwt = Zeroizing::new(String::with_capacity(length));
    jwt.push_str(message);
    jwt.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut jwt);
    jwt
}

/// A unique id: 128 bits.
pub(super) fn id() -> Result<String, Unusable> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Unusable::NotDone)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Whether a text has the shape of a signed JWT. Nothing is verified.
pub(super) fn check_shape(text: &str) -> Result<(), Unusable> {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let parts: Vec<&str> = text.split('.').collect();
    let is_readable = text.bytes().all(|byte| is_base64url(byte) || byte == b'.');
    match parts[..] {
        [header, claims, signature] if is_readable && !header.is_empty() && !claims.is_empty() => {
            // The writer of the file has not written the end yet.
            if signature.is_empty() { Err(Unusable::Cut) } else { Ok(()) }
        }
        // `eyJ` is `{"` in base64url, the start of every JWT header.
        [header, ..] if is_readable && header.starts_with("eyJ") && parts.len() < 3 => {
            Err(Unusable::Cut)
        }
        _ => Err(Unusable::NoToken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_not_a_jwt_is_distinguished_from_a_half_written_jwt() {
        assert_eq!(check_shape("eyJhbGciOiJIUzI1NiJ9.e30.c2ln-_"), Ok(()));
        for cut in ["eyJ", "eyJhbGciOiJIUzI1NiJ9", "eyJhbGci.e30", "eyJhbGci.e30."] {
            assert_eq!(check_shape(cut), Err(Unusable::Cut), "{cut}");
        }
        for other in ["", "hush", "a b.c.d", "eyJ.e30.c2ln.x.y", "..", "e30..x", "<html>.a.b"] {
            assert_eq!(check_shape(other), Err(Unusable::NoToken), "{other}");
        }
    }

    #[test]
    fn the_reserved_length_of_a_signed_jwt_is_enough() {
        for length in 0..70 {
            let jwt = signed("a.b", &vec![0xff; length]);
            assert!(jwt.len() <= 3 + 1 + length.div_ceil(3) * 4, "{length}");
        }
    }

    #[test]
    fn ids_differ_and_have_128_bits() {
        let ids: std::collections::HashSet<_> = (0..100).map(|_| id().unwrap()).collect();
        assert_eq!(ids.len(), 100);
        assert!(ids.iter().all(|id| BASE64_URL_SAFE_NO_PAD.decode(id).unwrap().len() == 16));
    }
}
