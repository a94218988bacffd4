//! A certificate and its key.

use std::time::SystemTime;

use reqwest::Client;
use zeroize::Zeroizing;

use super::{
    super::{
        client_recipe::ClientRecipe,
        pem::{self, Block},
        transport::Identity,
        x509::Certificate,
    },
    texts,
    unusable::Unusable,
};

/// The client's certificate chain and its key, as one text.
pub(super) struct Pair {
    pem: Zeroizing<String>,
}

// ===== impl Pair =====

impl Pair {
    /// Finds the certificates in one text and the key in the other.
    pub(super) fn of(identity: Identity<'_>) -> Result<Self, Unusable> {
        let certificates = texts::certificates(identity.certificate)?;
        let key = texts::key(identity.key)?;
        let first = certificates.first().and_then(Block::der);
        let first = first.as_deref().and_then(|der| Certificate::read(der));
        if first.is_some_and(|first| first.not_after < SystemTime::now()) {
            return Err(EXPIRED);
        }
        let blocks: Vec<_> = certificates.iter().chain([&key]).collect();
        Ok(Self { pem: pem::text(&blocks) })
    }

    /// Makes a client with the certificates.
    pub(super) fn client(&self, recipe: &ClientRecipe) -> Result<Client, Unusable> {
        let identity = reqwest::Identity::from_pem(self.pem.as_bytes());
        let client = identity.and_then(|identity| recipe.client(Some(identity)));
        // When the endpoint was built, it made a client without a certificate, so the pair is at
        // fault. The error is not shown, because it comes from parsing the key.
        client.map_err(|_| NO_PAIR)
    }
}

const EXPIRED: Unusable = Unusable { problem: "has expired", may_pass: false };
const NO_PAIR: Unusable = Unusable {
    problem: "has a key that belongs to another certificate, or one of the two is damaged",
    may_pass: true,
};
