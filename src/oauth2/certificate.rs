//! The ready-made transport with a client certificate (RFC 8705 §2), which may change.

mod pair;
mod texts;
mod unusable;

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use zeroize::Zeroizing;

use self::{pair::Pair, unusable::Unusable};
use super::{
    client_recipe::ClientRecipe,
    reqwest_service::ReqwestService,
    transport::{Exchange, Identity, ServiceTransport, Transport, TransportError},
};

/// Makes a client for each certificate, and keeps the last one.
pub(super) struct CertificateTransport {
    recipe: ClientRecipe,
    last: Mutex<Option<Last>>,
}

/// A client and its certificate. Its connections close when the last exchange over it has ended.
struct Last {
    certificate: Zeroizing<String>,
    key: Zeroizing<String>,
    client: ReqwestService,
}

// ===== impl CertificateTransport =====

impl CertificateTransport {
    pub(super) fn new(recipe: ClientRecipe) -> Self {
        Self { recipe, last: Mutex::default() }
    }

    /// Checks an identity.
    pub(super) fn check(&self, identity: Identity<'_>) -> Result<(), &'static str> {
        self.client(identity).map(drop).map_err(|unusable| unusable.problem)
    }

    /// The client for this identity: the last one, or a new one.
    fn client(&self, identity: Identity<'_>) -> Result<ReqwestService, Unusable> {
        let pair = Pair::of(identity)?;
        // The lock is held while a client is built: concurrent callers must wait for it anyway.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.as_ref().filter(|last| last.shows(identity)) {
            return Ok(last.client.clone());
        }
        let client = pair.client(&self.recipe).map(ReqwestService::new)?;
        let owned = |text: &str| Zeroizing::new(text.to_owned());
        let (certificate, key) = (owned(identity.certificate), owned(identity.key));
        *last = Some(Last { certificate, key, client: client.clone() });
        Ok(client)
    }
}

impl Transport for CertificateTransport {
    fn may_take(&self, identity: Option<Identity<'_>>) -> bool {
        let unusable = identity.and_then(|identity| self.client(identity).err());
        unusable.is_none_or(|unusable| !unusable.may_pass)
    }

    #[expect(clippy::expect_used, reason = "an endpoint with this transport has a certificate")]
    fn exchange<'a>(
        &'a self,
        request: Request<Full<Bytes>>,
        identity: Option<Identity<'a>>,
    ) -> Exchange<'a> {
        Box::pin(async move {
            let identity = identity.expect("an endpoint with this transport has a certificate");
            let client = self.client(identity).map_err(|Unusable { problem, may_pass }| {
                TransportError::Certificate { problem, may_pass }
            })?;
            ServiceTransport(client).exchange(request, None).await
        })
    }
}

// ===== impl Last =====

impl Last {
    fn shows(&self, identity: Identity<'_>) -> bool {
        *self.certificate == identity.certificate && *self.key == identity.key
    }
}
