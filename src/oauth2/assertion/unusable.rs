//! A credential that was read, and that no assertion can be made of.

use std::{error::Error, sync::Arc};

#[cfg(feature = "jwt")]
use super::super::pem::Malformed;
use crate::secret::Secret;

/// What `client_assertion` stands for in errors.
const SETTING: &str = "client_assertion";

/// A credential that cannot be used: it names the setting and the place, never a value.
#[derive(Debug, thiserror::Error)]
#[error("`{setting}`: {place} {problem}")]
pub(crate) struct UnusableCredential {
    setting: &'static str,
    place: String,
    problem: Problem,
}

/// What is wrong with it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("{}", .0.text())]
    Unusable(Unusable),
    #[error("failed: {0}")]
    Signer(Arc<dyn Error + Send + Sync>),
}

/// What is wrong with a key, a certificate or a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "jwt"), expect(dead_code, reason = "nothing is signed here"))]
pub(super) enum Unusable {
    // Of any of them.
    /// It ends too early.
    Cut,
    /// Line ends are written out.
    EscapedLines,
    NotDone,
    // Of keys.
    NoKey,
    Public,
    Encrypted,
    OpenSsh,
    Broken,
    Unsupported,
    WrongKind,
    TooShort,
    ForEncryption,
    JwkSet,
    JwkWithoutPrimes,
    Symmetric,
    ShortSecret,
    // Of certificates.
    NoCertificate,
    BrokenCertificate,
    OtherCertificate,
    ExpiredCertificate,
    // Of tokens.
    NoToken,
    // Of signatures that somebody else has made.
    BadSignature,
    // Of Google's key files.
    NoServiceAccount,
    OtherTokenUri,
}

// ===== impl UnusableCredential =====

impl UnusableCredential {
    pub(super) fn of(secret: &Secret, unusable: Unusable) -> Self {
        Self::at(secret.place(), Problem::Unusable(unusable))
    }

    pub(super) fn at(place: impl Into<String>, problem: Problem) -> Self {
        Self { setting: SETTING, place: place.into(), problem }
    }

    /// The same of another setting.
    #[cfg(feature = "jwt")]
    pub(super) fn in_setting(self, setting: &'static str) -> Self {
        Self { setting, ..self }
    }

    /// Whether the failure may pass by itself; the others need somebody to mend something.
    pub(crate) fn is_transient(&self) -> bool {
        match self.problem {
            Problem::Signer(_) => true,
            Problem::Unusable(unusable) => unusable.is_transient(),
        }
    }
}

// ===== impl Unusable =====

#[cfg(feature = "jwt")]
impl From<Malformed> for Unusable {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Cut => Self::Cut,
            Malformed::EscapedLines => Self::EscapedLines,
        }
    }
}

impl Unusable {
    /// Whoever writes a file goes on writing; and a key and its certificate, which are two files,
    /// are not replaced in one moment.
    fn is_transient(self) -> bool {
        matches!(self, Self::Cut | Self::OtherCertificate | Self::NotDone)
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Cut => "ends too early: it may be half-written",
            Self::EscapedLines => {
                "has `\\n` written out in it: PEM needs real line ends, or spaces"
            }
            Self::NotDone => "was not used, because the runtime or the random numbers failed",
            Self::NoKey => "holds no private key: neither PEM nor a JWK",
            Self::Public => "holds no private key, only what is public",
            Self::Encrypted => {
                "holds a private key that is encrypted: decrypt it, by \
                 `openssl pkey -in encrypted.pem -out key.pem`"
            }
            Self::OpenSsh => {
                "holds a private key in OpenSSH's own format: convert it, by \
                 `ssh-keygen -p -m PKCS8 -f key`"
            }
            Self::Broken => "holds a private key that is damaged",
            Self::Unsupported => {
                "holds a private key of another kind than RSA, P-256, P-384 and Ed25519"
            }
            Self::WrongKind => "holds a key of another kind than the algorithm is for",
            Self::TooShort => "holds an RSA key of fewer than 2048 bits (RFC 7518 §3.3)",
            Self::ForEncryption => "holds a key that is not for signing, by its own `use`",
            Self::JwkSet => "holds a set of JWKs: give one of them",
            Self::JwkWithoutPrimes => {
                "holds an RSA key without `p`, `q`, `dp`, `dq` and `qi` (RFC 7518 §6.3.2)"
            }
            Self::Symmetric => {
                "holds a symmetric key: use `ClientAssertion::client_secret(..)` for it"
            }
            Self::ShortSecret => {
                "is shorter than the hash of the algorithm (RFC 7518 §3.2): 32 bytes for HS256, 48 \
                 for HS384, 64 for HS512"
            }
            Self::NoCertificate => "holds no certificate in PEM",
            Self::BrokenCertificate => "holds a certificate that is damaged",
            Self::OtherCertificate => "holds a certificate that is not for the key, as its first",
            Self::ExpiredCertificate => "holds a certificate that has expired",
            Self::NoToken => "holds no JWT",
            Self::BadSignature => "made a signature that is none of the algorithm",
            Self::NoServiceAccount => {
                "is no key file of a service account: an object with `type` \"service_account\", \
                 `client_email` and `private_key`"
            }
            Self::OtherTokenUri => {
                "has a `token_uri` that is neither Google's nor the endpoint's: if you trust it, \
                 say so by `.url(..)`"
            }
        }
    }
}
