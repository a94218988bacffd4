//! Keys that never leave their KMS or HSM.

use std::{fmt, pin::Pin};

use super::algorithm::SigningAlgorithm;
use crate::error::BoxError;

/// Signs assertions with a key outside this program: in a KMS, an HSM, a TPM, an agent.
///
/// ```
/// use tower_bearer::{
///     BoxError,
///     oauth2::{ClientAssertion, Signer, SigningAlgorithm, TokenEndpoint},
/// };
///
/// /// A key in the cloud.
/// struct Kms;
///
/// impl Signer for Kms {
///     fn algorithm(&self) -> SigningAlgorithm {
///         SigningAlgorithm::Es256
///     }
///
///     async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BoxError> {
///         // Ask it to hash `message` and to sign the hash.
/// #       let _ = message;
///         Ok(vec![0; 64])
///     }
/// }
///
/// let assertion = ClientAssertion::signer(Kms).issuer("https://auth.example.com");
/// let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
///     .client_id("my-app")
///     .client_assertion(assertion);
/// # #[cfg(feature = "reqwest")]
/// # endpoint.build()?;
/// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
/// ```
///
/// The endpoint calls it from any thread, hence its bounds.
pub trait Signer: Send + Sync + 'static {
    /// Returns the algorithm.
    fn algorithm(&self) -> SigningAlgorithm;

    /// Returns the id of the key (`kid`), by which the service finds the public key. The
    /// [id set on the assertion](super::ClientAssertion::key_id) takes precedence.
    fn key_id(&self) -> Option<String> {
        None
    }

    /// Signs a message. It must hash the message first, if the algorithm does.
    ///
    /// An ECDSA signature may be two numbers of a fixed length (RFC 7518 §3.4), or DER, as most
    /// services return it.
    ///
    /// # Errors
    ///
    /// If signing fails. The failure counts as transient, and errors show its text.
    fn sign(&self, message: &[u8]) -> impl Future<Output = Result<Vec<u8>, BoxError>> + Send;
}

/// A type-erased signer. At one signature an hour, the cost of a box does not matter.
pub(super) trait AnySigner: Send + Sync {
    fn algorithm(&self) -> SigningAlgorithm;
    fn key_id(&self) -> Option<String>;
    fn sign<'a>(&'a self, message: &'a [u8]) -> Signing<'a>;
}

pub(super) type Signing<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, BoxError>> + Send + 'a>>;

// ===== impl AnySigner =====

impl<S: Signer> AnySigner for S {
    fn algorithm(&self) -> SigningAlgorithm {
        Signer::algorithm(self)
    }

    fn key_id(&self) -> Option<String> {
        Signer::key_id(self)
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> Signing<'a> {
        Box::pin(Signer::sign(self, message))
    }
}

impl fmt::Debug for dyn AnySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("algorithm", &self.algorithm()).finish_non_exhaustive()
    }
}
