//! Parses a private key: PEM or a JWK.

use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};

use super::{
    super::{
        der::{INTEGER, Reader},
        pem::{self, Block},
    },
    jwk,
    key::{Key, P256, P384, Parsed, rejected},
    unusable::Unusable,
};

const OID: u8 = 0x06;

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ON_P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ON_P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// Reads the first private key.
pub(super) fn parse(text: &str) -> Result<Parsed, Unusable> {
    if text.trim_start().starts_with('{') {
        return jwk::parse(text.trim());
    }
    let blocks = pem::blocks(text)?;
    match blocks.iter().find(|block| block.is_private_key()) {
        Some(block) => from_block(block).map(Parsed::from),
        None if blocks.is_empty() => Err(Unusable::NoKey),
        None => Err(Unusable::Public),
    }
}

fn from_block(block: &Block<'_>) -> Result<Key, Unusable> {
    if block.label == "OPENSSH PRIVATE KEY" {
        return Err(Unusable::OpenSsh);
    }
    if block.is_encrypted() {
        return Err(Unusable::Encrypted);
    }
    let der = block.der().ok_or(Unusable::Broken)?;
    match block.label {
        "PRIVATE KEY" => from_pkcs8(&der),
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der).map(Key::Rsa).map_err(rejected),
        "EC PRIVATE KEY" => from_sec1(&der),
        _ => Err(Unusable::Unsupported),
    }
}

/// Parses PKCS#8 (RFC 5958 §2).
fn from_pkcs8(der: &[u8]) -> Result<Key, Unusable> {
    let (algorithm, curve) = pkcs8_algorithm(der).ok_or(Unusable::Broken)?;
    match (algorithm, curve) {
        (RSA, _) => RsaKeyPair::from_pkcs8(der).map(Key::Rsa),
        (EC, Some(ON_P256)) => EcdsaKeyPair::from_pkcs8(P256, der).map(Key::P256),
        (EC, Some(ON_P384)) => EcdsaKeyPair::from_pkcs8(P384, der).map(Key::P384),
        (ED25519, _) => Ed25519KeyPair::from_pkcs8(der).map(Key::Ed25519),
        _ => return Err(Unusable::Unsupported),
    }
    .map_err(rejected)
}

fn pkcs8_algorithm(der: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let mut info = Reader::new(der).sequence()?;
    info.read(INTEGER)?;
    let mut algorithm = info.sequence()?;
    Some((algorithm.read(OID)?, algorithm.read(OID)))
}

/// Parses SEC1 (RFC 5915 §3). The curve is optional there, so this tries both.
fn from_sec1(der: &[u8]) -> Result<Key, Unusable> {
    let p256 = EcdsaKeyPair::from_private_key_der(P256, der).map(Key::P256);
    let either = p256.or_else(|_| EcdsaKeyPair::from_private_key_der(P384, der).map(Key::P384));
    either.map_err(|_| {
        if Reader::new(der).sequence().is_some() { Unusable::Unsupported } else { Unusable::Broken }
    })
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::{super::algorithm::SigningAlgorithm, *};

    const KEYS: [&str; 5] = [
        include_str!("../../../tests/vectors/keys/p256.pem"),
        include_str!("../../../tests/vectors/keys/p384.sec1.pem"),
        include_str!("../../../tests/vectors/keys/ed25519.pem"),
        include_str!("../../../tests/vectors/keys/p256.jwk.json"),
        include_str!("../../../tests/vectors/keys/ed25519.jwk.json"),
    ];

    #[test]
    fn a_truncated_key_counts_as_half_written() {
        for key in KEYS {
            for end in 1..key.trim_end().len() {
                assert_eq!(parse(&key[..end]).err(), Some(Unusable::Cut), "{end}");
            }
        }
    }

    #[test]
    fn a_key_with_a_changed_character_never_panics() {
        for key in KEYS {
            for at in 0..key.len() {
                let changed = |with| format!("{}{with}{}", &key[..at], &key[at + 1..]);
                for with in ["A", "/", "\"", "-", "\n", "\u{e9}"] {
                    // If it still parses, it must be able to sign.
                    if let Ok(parsed) = parse(&changed(with)) {
                        let algorithm = parsed.algorithm(None, SigningAlgorithm::Rs256);
                        algorithm.map(|algorithm| parsed.key.sign(algorithm, b"a").unwrap()).ok();
                    }
                }
            }
        }
    }

    /// RFC 8037 §A.1 and §A.4: the signature of Ed25519 is always the same.
    #[test]
    fn the_example_of_the_rfc_gets_the_signature_of_the_rfc() {
        let jwk = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
            "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = parse(jwk).unwrap().key.sign(SigningAlgorithm::EdDsa, message).unwrap();
        assert_eq!(
            BASE64_URL_SAFE_NO_PAD.encode(signature),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
    }
}
