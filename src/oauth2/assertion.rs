//! Client authentication with an assertion (RFC 7521 §4.2, RFC 7523 §2.2), and signed grants.
//!
//! Each exchange signs new assertions just before it sends them.

mod algorithm;
#[cfg(feature = "jwt")]
mod blocking;
#[cfg(feature = "jwt")]
mod certificate;
#[cfg(feature = "jwt")]
mod jwk;
mod jwt;
#[cfg(feature = "jwt")]
mod key;
#[cfg(feature = "jwt")]
mod parse;
mod proof;
mod prover;
#[cfg(feature = "jwt")]
mod service_account;
mod settings;
mod signature;
mod signer;
mod skew;
mod unusable;

#[cfg(feature = "jwt")]
pub(super) use self::service_account::ServiceAccount;
pub use self::{
    algorithm::SigningAlgorithm,
    settings::{AssertionType, Audience, ClientAssertion},
    signer::Signer,
};
pub(super) use self::{
    proof::Proofs, prover::Prover, settings::Profile, skew::skew, unusable::UnusableCredential,
};
