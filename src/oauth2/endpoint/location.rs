//! The location of a token endpoint.

use std::{sync::Arc, time::Duration};

use http::StatusCode;

use super::super::{
    destination::Destination,
    discovery::Discovery,
    error::{EndpointError, EndpointErrorKind as Kind},
    transport::{Identity, Transport},
};
use crate::observe::Label;

/// How the endpoint's location is known.
pub(in crate::oauth2) enum Location {
    /// From the settings.
    Fixed(Arc<Destination>),
    /// From the issuer's metadata.
    Discovered(Box<Discovery>),
}

// ===== impl Location =====

impl Location {
    /// Returns the destination, perhaps after a reading of the metadata.
    pub(super) async fn destination(
        &self,
        transport: &dyn Transport,
        identity: Option<Identity<'_>>,
        label: &Label,
    ) -> Result<Arc<Destination>, EndpointError> {
        match self {
            Self::Fixed(destination) => Ok(Arc::clone(destination)),
            Self::Discovered(discovery) => discovery.destination(transport, identity, label).await,
        }
    }

    /// How long [`Self::destination`] may take.
    pub(super) fn timeout(&self) -> Duration {
        match self {
            Self::Fixed(_) => Duration::ZERO,
            Self::Discovered(discovery) => discovery.timeout,
        }
    }

    /// Checks whether an exchange has failed because the endpoint has moved.
    pub(super) fn failed(&self, error: &EndpointError) {
        let Self::Discovered(discovery) = self else { return };
        let is_gone = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED, StatusCode::GONE];
        let has_moved = match error.kind() {
            Kind::Unreachable | Kind::Redirected => true,
            Kind::Refused => error.status().is_some_and(|status| is_gone.contains(&status)),
            _ => false,
        };
        if has_moved {
            discovery.doubt();
        }
    }
}
