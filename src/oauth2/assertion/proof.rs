//! The assertions of one exchange, from this crate or a third party.

use zeroize::Zeroizing;

/// The assertions of one exchange.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Proofs {
    /// The client's assertion, and its type.
    pub(crate) client: Option<(&'static str, Zeroizing<String>)>,
    /// The grant.
    pub(crate) grant: Option<Zeroizing<String>>,
}

// ===== impl Proofs =====

impl Proofs {
    /// The texts to redact: each assertion, and its signature alone.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let client = self.client.iter().map(|(_, assertion)| assertion);
        client
            .chain(&self.grant)
            .flat_map(|jwt| {
                let signature = jwt.rsplit_once('.').map(|(_, signature)| signature);
                [Some(jwt.as_str()), signature]
            })
            .flatten()
    }
}
