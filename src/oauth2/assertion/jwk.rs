//! A private key as a JWK (RFC 7517, RFC 7518 §6, RFC 8037 §2).

use std::borrow::Cow;

use aws_lc_rs::{
    rsa::{KeyPairComponents as RsaComponents, PublicKeyComponents as RsaPublicComponents},
    signature::{EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RsaKeyPair},
};
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    super::pem::decoded,
    algorithm::SigningAlgorithm,
    key::{Key, P256, P384, Parsed, rejected},
    unusable::Unusable,
};

const MIN_MODULUS: usize = 2048 / 8;

/// The relevant members. Those of the key are borrowed, so that no copy of them is left behind.
#[derive(Deserialize)]
struct Jwk<'a> {
    kty: Option<&'a str>,
    crv: Option<&'a str>,
    #[serde(rename = "use")]
    purpose: Option<&'a str>,
    alg: Option<&'a str>,
    #[serde(borrow)]
    kid: Option<Cow<'a, str>>,
    d: Option<&'a str>,
    x: Option<&'a str>,
    y: Option<&'a str>,
    n: Option<&'a str>,
    e: Option<&'a str>,
    p: Option<&'a str>,
    q: Option<&'a str>,
    dp: Option<&'a str>,
    dq: Option<&'a str>,
    qi: Option<&'a str>,
    keys: Option<serde::de::IgnoredAny>,
}

/// Reads a key from the text of a JSON object.
pub(super) fn parse(text: &str) -> Result<Parsed, Unusable> {
    let jwk: Jwk<'_> = serde_json::from_str(text)
        .map_err(|error| if error.is_eof() { Unusable::Cut } else { Unusable::Broken })?;
    if jwk.keys.is_some() {
        return Err(Unusable::JwkSet);
    }
    if jwk.purpose.is_some_and(|purpose| purpose != "sig") {
        return Err(Unusable::ForEncryption);
    }
    let key = jwk.key()?;
    // An unknown algorithm: the key is for another purpose.
    let algorithm = match jwk.alg {
        Some(name) => Some(SigningAlgorithm::named(name).ok_or(Unusable::WrongKind)?),
        None => None,
    };
    Ok(Parsed { key, key_id: jwk.kid.map(Cow::into_owned), algorithm })
}

// ===== impl Jwk =====

impl Jwk<'_> {
    fn key(&self) -> Result<Key, Unusable> {
        match (self.kty, self.crv) {
            (Some("oct"), _) => Err(Unusable::Symmetric),
            (Some("RSA" | "EC" | "OKP"), _) if self.d.is_none() => Err(Unusable::Public),
            (Some("RSA"), _) => self.rsa(),
            (Some("EC"), Some("P-256")) => self.ec(P256, 32).map(Key::P256),
            (Some("EC"), Some("P-384")) => self.ec(P384, 48).map(Key::P384),
            (Some("OKP"), Some("Ed25519")) => {
                let (seed, public) = (bytes(self.d)?, bytes(self.x)?);
                Ed25519KeyPair::from_seed_and_public_key(&seed, &public)
                    .map(Key::Ed25519)
                    .map_err(rejected)
            }
            (Some(_), _) => Err(Unusable::Unsupported),
            (None, _) => Err(Unusable::NoKey),
        }
    }

    fn rsa(&self) -> Result<Key, Unusable> {
        let primes = [self.p, self.q, self.dp, self.dq, self.qi];
        if primes.iter().any(Option::is_none) {
            return Err(Unusable::JwkWithoutPrimes);
        }
        let n = bytes(self.n)?;
        if n.len() < MIN_MODULUS {
            return Err(Unusable::TooShort);
        }
        let components = RsaComponents {
            public_key: RsaPublicComponents { n, e: bytes(self.e)? },
            d: bytes(self.d)?,
            p: bytes(self.p)?,
            q: bytes(self.q)?,
            dP: bytes(self.dp)?,
            dQ: bytes(self.dq)?,
            qInv: bytes(self.qi)?,
        };
        RsaKeyPair::from_components(&components).map(Key::Rsa).map_err(rejected)
    }

    fn ec(
        &self,
        curve: &'static EcdsaSigningAlgorithm,
        size: usize,
    ) -> Result<EcdsaKeyPair, Unusable> {
        let (d, x, y) = (bytes(self.d)?, bytes(self.x)?, bytes(self.y)?);
        if [&d, &x, &y].iter().any(|number| number.len() != size) {
            return Err(Unusable::Broken);
        }
        // An uncompressed point (SEC 1 §2.3.3).
        let point = [&[4], x.as_slice(), y.as_slice()].concat();
        EcdsaKeyPair::from_private_key_and_public_key(curve, &d, &point).map_err(rejected)
    }
}

fn bytes(member: Option<&str>) -> Result<Bytes, Unusable> {
    let encoded = member.ok_or(Unusable::Broken)?;
    decoded(&BASE64_URL_SAFE_NO_PAD, encoded.as_bytes()).map(Bytes).ok_or(Unusable::Broken)
}

/// Wiped bytes with the traits that the library requires.
struct Bytes(Zeroizing<Vec<u8>>);

impl std::ops::Deref for Bytes {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
