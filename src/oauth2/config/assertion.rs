//! A client's assertion as data.

use serde::Deserialize;
#[cfg(feature = "jwt")]
use std::time::Duration;

use super::super::assertion::{AssertionType, ClientAssertion};
#[cfg(feature = "jwt")]
use super::super::assertion::{Audience, SigningAlgorithm};
#[cfg(feature = "jwt")]
use crate::data::Written;
use crate::secret::Secret;

/// The keys of the data.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proof {
    token: Option<Secret>,
    assertion_type: Option<AssertionType>,
    #[cfg(feature = "jwt")]
    private_key: Option<Secret>,
    #[cfg(feature = "jwt")]
    client_secret: Option<Secret>,
    #[cfg(feature = "jwt")]
    certificate: Option<Secret>,
    #[cfg(feature = "jwt")]
    key_id: Option<String>,
    #[cfg(feature = "jwt")]
    algorithm: Option<SigningAlgorithm>,
    #[cfg(feature = "jwt")]
    issuer: Option<String>,
    #[cfg(feature = "jwt")]
    audience: Option<String>,
    #[cfg(feature = "jwt")]
    #[serde(default)]
    token_endpoint_audience: bool,
    #[cfg(feature = "jwt")]
    header_type: Option<String>,
    #[cfg(feature = "jwt")]
    lifetime: Option<Written<Duration>>,
}

const TOKEN: &str = "client_assertion.token";

// ===== impl Proof =====

#[cfg(feature = "jwt")]
impl Proof {
    /// The secrets with their keys.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (&'static str, &Option<Secret>)> {
        let certificate = [("client_assertion.certificate", &self.certificate)];
        self.ways().into_iter().chain(certificate)
    }

    /// The sources of an assertion, of which there must be exactly one.
    fn ways(&self) -> [(&'static str, &Option<Secret>); 3] {
        [
            (TOKEN, &self.token),
            ("client_assertion.private_key", &self.private_key),
            ("client_assertion.client_secret", &self.client_secret),
        ]
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let ways = self.ways().into_iter().filter(|(_, secret)| secret.is_some()).count();
        let audiences =
            [self.issuer.is_some(), self.audience.is_some(), self.token_endpoint_audience];
        if ways != 1 {
            return Err(
                "`client_assertion` needs exactly one of `private_key`, `client_secret` and \
                        `token`"
                    .to_owned(),
            );
        }
        if audiences.into_iter().filter(|is_set| *is_set).count() > 1 {
            return Err("`client_assertion` may have only one of `issuer`, `audience` and \
                        `token_endpoint_audience`"
                .to_owned());
        }
        Ok(())
    }

    pub(super) fn settings(self) -> Option<ClientAssertion> {
        use ClientAssertion as Settings;
        let token = self.token.map(Settings::token);
        let private_key = self.private_key.map(Settings::private_key);
        let client_secret = self.client_secret.map(Settings::client_secret);
        let audience = [
            self.issuer.map(Audience::Issuer),
            self.audience.map(Audience::Exactly),
            self.token_endpoint_audience.then_some(Audience::TokenEndpoint),
        ];
        let settings = token.or(private_key).or(client_secret)?;
        let settings = set(settings, self.assertion_type, Settings::assertion_type);
        let settings = set(settings, self.certificate, Settings::certificate);
        let settings = set(settings, self.key_id, Settings::key_id);
        let settings = set(settings, self.algorithm, Settings::algorithm);
        let settings = audience.into_iter().flatten().fold(settings, Settings::audience);
        let settings = set(settings, self.header_type, Settings::header_type);
        let lifetime = self.lifetime.map(|Written(lifetime)| lifetime);
        Some(set(settings, lifetime, Settings::lifetime))
    }
}

/// Without feature `jwt` only a third party's assertion is possible.
#[cfg(not(feature = "jwt"))]
impl Proof {
    pub(super) fn secrets(&self) -> impl Iterator<Item = (&'static str, &Option<Secret>)> {
        [(TOKEN, &self.token)].into_iter()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let missing =
            || "`client_assertion` needs a `token`: other keys require feature `jwt`".to_owned();
        self.token.as_ref().map(drop).ok_or_else(missing)
    }

    pub(super) fn settings(self) -> Option<ClientAssertion> {
        let settings = self.token.map(ClientAssertion::token)?;
        Some(set(settings, self.assertion_type, ClientAssertion::assertion_type))
    }
}

fn set<T>(
    settings: ClientAssertion,
    value: Option<T>,
    method: impl FnOnce(ClientAssertion, T) -> ClientAssertion,
) -> ClientAssertion {
    match value {
        Some(value) => method(settings, value),
        None => settings,
    }
}
