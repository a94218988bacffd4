//! A certificate and its key.

use std::time::SystemTime;

use reqwest::Client;
use zeroize::Zeroizing;

use super::{
    super::{client_recipe::ClientRecipe, transport::Identity},
    pem,
    unusable::Unusable,
    validity,
};

/// The client's certificates and their key, as one text.
pub(super) struct Pair {
    pem: Zeroizing<String>,
}

// ===== impl Pair =====

impl Pair {
    /// Finds the certificates in one text and the key in the other.
    pub(super) fn of(identity: Identity<'_>) -> Result<Self, Unusable> {
        let certificates = pem::certificates(identity.certificate)?;
        let key = pem::key(identity.key)?;
        let expiry = certificates.first().and_then(|first| validity::not_after(first));
        if expiry.is_some_and(|expiry| expiry <= SystemTime::now()) {
            return Err(EXPIRED);
        }
        // Room for all: a text that grew would leave copies of the key behind.
        let length = certificates.iter().chain([&key]).map(|section| section.len() + 1).sum();
        let mut pem = Zeroizing::new(String::with_capacity(length));
        for section in certificates.into_iter().chain([key]) {
            pem.push_str(section);
            pem.push('\n');
        }
        Ok(Self { pem })
    }

    /// A client that shows the certificates.
    pub(super) fn client(&self, recipe: &ClientRecipe) -> Result<Client, Unusable> {
        let identity = reqwest::Identity::from_pem(self.pem.as_bytes());
        let client = identity.and_then(|identity| recipe.client(Some(identity)));
        // Without a certificate the client could be made, when the endpoint was built. The error
        // is not shown, because it comes from where the key was read.
        client.map_err(|_| NO_PAIR)
    }
}

const EXPIRED: Unusable = Unusable { problem: "has expired", may_pass: false };
const NO_PAIR: Unusable = Unusable {
    problem: "has a key that belongs to another certificate, or one of the two is damaged",
    may_pass: true,
};
