//! The certificate of a key (RFC 7515 §4.1.6 and §4.1.8): the parts that assertions need.

use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};

use super::{
    super::{pem, x509::Certificate},
    unusable::Unusable,
};

/// A certificate chain as in a file: the key's own certificate first.
pub(super) struct Certificates {
    chain: Vec<Vec<u8>>,
}

// ===== impl Certificates =====

impl Certificates {
    /// Reads all certificates of a text, which may contain a key too.
    pub(super) fn parse(text: &str) -> Result<Self, Unusable> {
        let blocks = pem::blocks(text)?;
        let certificates = blocks.iter().filter(|block| block.is_certificate());
        let chain: Option<Vec<_>> = certificates.map(|block| Some(block.der()?.to_vec())).collect();
        let chain = chain.ok_or(Unusable::BrokenCertificate)?;
        if chain.is_empty() { Err(Unusable::NoCertificate) } else { Ok(Self { chain }) }
    }

    /// Checks that it has not expired and, if the key is known, that it matches the key.
    pub(super) fn check(&self, public_key: Option<&[u8]>, now: SystemTime) -> Result<(), Unusable> {
        let own = self.chain.first().and_then(|own| Certificate::read(own));
        let own = own.ok_or(Unusable::BrokenCertificate)?;
        if public_key.is_some_and(|public_key| public_key != own.public_key) {
            return Err(Unusable::OtherCertificate);
        }
        if own.not_after < now { Err(Unusable::ExpiredCertificate) } else { Ok(()) }
    }

    /// `x5t#S256`.
    pub(super) fn thumbprint(&self) -> Option<String> {
        let own = self.chain.first()?;
        Some(BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, own)))
    }

    /// `x5c`.
    pub(super) fn chain(&self) -> Vec<String> {
        self.chain.iter().map(|der| BASE64_STANDARD.encode(der)).collect()
    }
}
