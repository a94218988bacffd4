//! A credential that cannot make an assertion.

use std::{error::Error, sync::Arc};

#[cfg(feature = "jwt")]
use super::super::pem::Malformed;
use crate::secret::Secret;

/// The name of the setting in errors.
const SETTING: &str = "client_assertion";

/// A credential that cannot be used. The error names the setting and the place, never a value.
#[derive(Debug, thiserror::Error)]
#[error("`{setting}`: {place} {problem}")]
pub(crate) struct UnusableCredential {
    setting: &'static str,
    place: String,
    problem: Problem,
}

/// The problem.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("{}", .0.text())]
    Unusable(Unusable),
    #[error("failed: {0}")]
    Signer(Arc<dyn Error + Send + Sync>),
}

/// The problem of a key, a certificate or a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "jwt"), expect(dead_code, reason = "nothing is signed here"))]
pub(super) enum Unusable {
    // Any credential.
    /// The text ends too early.
    Cut,
    /// The text has `\n` in place of line ends.
    EscapedLines,
    NotDone,
    // Keys.
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
    // Certificates.
    NoCertificate,
    BrokenCertificate,
    OtherCertificate,
    ExpiredCertificate,
    // Tokens.
    NoToken,
    // Signatures of a `Signer`.
    BadSignature,
    // Google's key files.
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

    /// Changes the setting.
    #[cfg(feature = "jwt")]
    pub(super) fn in_setting(self, setting: &'static str) -> Self {
        Self { setting, ..self }
    }

    /// Whether a retry may succeed. All other failures need an operator.
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
    /// A half-written file is completed soon, and a key and its certificate, which are two files,
    /// are not replaced at the same moment.
    fn is_transient(self) -> bool {
        matches!(self, Self::Cut | Self::OtherCertificate | Self::NotDone)
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Cut => "ends too early: it may be half-written",
            Self::EscapedLines => "contains a literal `\\n`: PEM needs real line ends, or spaces",
            Self::NotDone => "was not used, because the runtime or the random numbers failed",
            Self::NoKey => "holds no private key: neither PEM nor a JWK",
            Self::Public => "holds only public data, and no private key",
            Self::Encrypted => {
                "holds a private key that is encrypted: decrypt it with \
                 `openssl pkey -in encrypted.pem -out key.pem`"
            }
            Self::OpenSsh => {
                "holds a private key in OpenSSH's own format: convert it with \
                 `ssh-keygen -p -m PKCS8 -f key`"
            }
            Self::Broken => "holds a private key that is damaged",
            Self::Unsupported => {
                "holds a private key of another kind than RSA, P-256, P-384 or Ed25519"
            }
            Self::WrongKind => "holds a key of a kind that the algorithm does not accept",
            Self::TooShort => "holds an RSA key of fewer than 2048 bits (RFC 7518 §3.3)",
            Self::ForEncryption => "holds a key whose `use` is not signing",
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
            Self::NoCertificate => "holds no PEM certificate",
            Self::BrokenCertificate => "holds a certificate that is damaged",
            Self::OtherCertificate => "has a first certificate that does not match the key",
            Self::ExpiredCertificate => "holds a certificate that has expired",
            Self::NoToken => "holds no JWT",
            Self::BadSignature => "made a signature that does not fit the algorithm",
            Self::NoServiceAccount => {
                "is not a key file of a service account: an object with `type` \"service_account\", \
                 `client_email` and `private_key`"
            }
            Self::OtherTokenUri => {
                "has a `token_uri` that is neither Google's nor the endpoint's: if you trust it, \
                 set it with `.url(..)`"
            }
        }
    }
}
