//! Signing keys: private keys and shared secrets.

use aws_lc_rs::{
    error::KeyRejected,
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
        RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    },
};

use zeroize::Zeroizing;

use super::{
    algorithm::{KeyKind, SigningAlgorithm},
    jwt::Signature,
    unusable::Unusable,
};

pub(super) static P256: &EcdsaSigningAlgorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
pub(super) static P384: &EcdsaSigningAlgorithm = &ECDSA_P384_SHA384_FIXED_SIGNING;

/// A private key. The cryptography library wipes its memory.
pub(super) enum Key {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A private key with the `alg` and `kid` beside it.
pub(super) struct Parsed {
    pub(super) key: Key,
    pub(super) key_id: Option<String>,
    pub(super) algorithm: Option<SigningAlgorithm>,
}

// ===== impl Parsed =====

impl Parsed {
    /// The configured algorithm, else the one beside the key, else the default.
    pub(super) fn algorithm(
        &self,
        said: Option<SigningAlgorithm>,
        usual_of_rsa: SigningAlgorithm,
    ) -> Result<SigningAlgorithm, Unusable> {
        let usual = match self.key.kind() {
            KeyKind::P256 => SigningAlgorithm::Es256,
            KeyKind::P384 => SigningAlgorithm::Es384,
            KeyKind::Ed25519 => SigningAlgorithm::EdDsa,
            KeyKind::Rsa | KeyKind::Secret => usual_of_rsa,
        };
        let algorithm = said.or(self.algorithm).unwrap_or(usual);
        let fits = algorithm.key_kind() == self.key.kind();
        if fits { Ok(algorithm) } else { Err(Unusable::WrongKind) }
    }
}

impl From<Key> for Parsed {
    fn from(key: Key) -> Self {
        Self { key, key_id: None, algorithm: None }
    }
}

// ===== impl Key =====

impl Key {
    fn kind(&self) -> KeyKind {
        match self {
            Self::Rsa(_) => KeyKind::Rsa,
            Self::P256(_) => KeyKind::P256,
            Self::P384(_) => KeyKind::P384,
            Self::Ed25519(_) => KeyKind::Ed25519,
        }
    }

    /// The public key, in the form that a certificate contains.
    pub(super) fn public(&self) -> &[u8] {
        match self {
            Self::Rsa(key) => key.public_key().as_ref(),
            Self::P256(key) | Self::P384(key) => key.public_key().as_ref(),
            Self::Ed25519(key) => key.public_key().as_ref(),
        }
    }

    /// Signs with an algorithm for keys of this kind.
    pub(super) fn sign(
        &self,
        algorithm: SigningAlgorithm,
        message: &[u8],
    ) -> Result<Signature, Unusable> {
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(key) => {
                let padding = rsa_padding(algorithm).ok_or(Unusable::WrongKind)?;
                let mut signature = Zeroizing::new(vec![0; key.public_modulus_len()]);
                key.sign(padding, &random, message, &mut signature).map(|()| signature)
            }
            Self::P256(key) | Self::P384(key) => {
                key.sign(&random, message).map(|signature| wiped(signature.as_ref()))
            }
            Self::Ed25519(key) => key.try_sign(message).map(|signature| wiped(signature.as_ref())),
        };
        signature.map_err(|_| Unusable::Broken)
    }
}

fn rsa_padding(algorithm: SigningAlgorithm) -> Option<&'static dyn RsaEncoding> {
    Some(match algorithm {
        SigningAlgorithm::Rs256 => &RSA_PKCS1_SHA256,
        SigningAlgorithm::Rs384 => &RSA_PKCS1_SHA384,
        SigningAlgorithm::Rs512 => &RSA_PKCS1_SHA512,
        SigningAlgorithm::Ps256 => &RSA_PSS_SHA256,
        SigningAlgorithm::Ps384 => &RSA_PSS_SHA384,
        SigningAlgorithm::Ps512 => &RSA_PSS_SHA512,
        _ => return None,
    })
}

/// Why the library rejected a key.
pub(super) fn rejected(error: KeyRejected) -> Unusable {
    match error.description_() {
        "TooSmall" => Unusable::TooShort,
        _ => Unusable::Broken,
    }
}

// ===== Shared secrets =====

fn hash(algorithm: SigningAlgorithm) -> Option<hmac::Algorithm> {
    Some(match algorithm {
        SigningAlgorithm::Hs256 => hmac::HMAC_SHA256,
        SigningAlgorithm::Hs384 => hmac::HMAC_SHA384,
        SigningAlgorithm::Hs512 => hmac::HMAC_SHA512,
        _ => return None,
    })
}

/// Whether a secret is long enough to sign with (RFC 7518 §3.2).
pub(super) fn check_secret(algorithm: SigningAlgorithm, secret: &str) -> Result<(), Unusable> {
    let hash = hash(algorithm).ok_or(Unusable::WrongKind)?;
    if secret.len() < hash.tag_len() { Err(Unusable::ShortSecret) } else { Ok(()) }
}

/// Signs with a secret.
pub(super) fn sign_with_secret(
    algorithm: SigningAlgorithm,
    secret: &str,
    message: &[u8],
) -> Result<Signature, Unusable> {
    check_secret(algorithm, secret)?;
    let hash = hash(algorithm).ok_or(Unusable::WrongKind)?;
    let tag = hmac::sign(&hmac::Key::new(hash, secret.as_bytes()), message);
    Ok(wiped(tag.as_ref()))
}

fn wiped(signature: &[u8]) -> Signature {
    Zeroizing::new(signature.to_vec())
}
