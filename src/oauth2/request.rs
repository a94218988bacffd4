//! The request to a token endpoint (RFC 6749 §4.4.2, §6, RFC 8707 §2).

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::Full;
use serde::Serialize;
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

#[cfg(feature = "jwt")]
use super::assertion::ServiceAccount;
use super::{
    assertion::{Proofs, Prover, UnusableCredential},
    client_auth::{ClientAuth, basic_header},
    destination::Destination,
    overlay::{Overlay, Problem},
    redact::Redactor,
    text::{Text, check_header, secret_header},
    transport::Identity,
};
use crate::secret::{Secret, SecretError};

const SCOPE: &str = "scope";

/// The format of the body of a token request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum BodyFormat {
    /// `application/x-www-form-urlencoded`, as RFC 6749 requires.
    #[default]
    Form,
    /// A JSON object with members sorted by name. A repeated parameter becomes an array.
    Json,
}

/// The parts that all requests of an endpoint share.
pub(super) struct Template {
    pub(super) client_id: Option<String>,
    pub(super) client_secret: Option<Secret>,
    /// The client certificate and its key.
    pub(super) certificate: Option<(Secret, Secret)>,
    pub(super) format: BodyFormat,
    pub(super) grant_type: String,
    /// `scope`, `audience` and `resource`, as configured.
    pub(super) targets: Vec<(&'static str, String)>,
    pub(super) params: Vec<(String, Text)>,
    /// The fixed headers.
    pub(super) headers: HeaderMap,
    pub(super) secret_headers: Vec<(HeaderName, Secret)>,
    /// The client's assertion, if there is one.
    pub(super) prover: Option<Prover>,
    /// The grant, if this crate signs it.
    #[cfg(feature = "jwt")]
    pub(super) service_account: Option<ServiceAccount>,
}

/// The values of one request: the secrets of an endpoint as read at one moment, in the order of its
/// template, and the request's own values.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Readings {
    pub(super) secrets: Vec<Zeroizing<String>>,
    pub(super) redeemed: Option<Redeemed>,
    pub(super) overlay: Overlay,
    /// The assertions, which are new for each exchange.
    pub(super) proofs: Proofs,
}

/// A refresh token or a subject's token that is exchanged for an access token.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Redeemed {
    /// The name of its parameter.
    pub(super) name: &'static str,
    pub(super) token: Zeroizing<String>,
}

/// The same values, by purpose.
struct Placed<'a> {
    client_secret: Option<&'a str>,
    params: Vec<&'a str>,
    headers: Vec<(&'a HeaderName, &'a str)>,
    identity: Option<Identity<'a>>,
    /// The secrets that make the assertions.
    rest: &'a [Zeroizing<String>],
}

// ===== impl Template =====

impl Template {
    /// Checks whether a request that asks for this can be made.
    pub(super) fn check(&self, overlay: &Overlay, takes_subject: bool) -> Result<(), Problem> {
        let secret_params = self.params.iter().filter(|(_, value)| value.secret().is_some());
        overlay.check(takes_subject, secret_params.map(|(name, _)| name.as_str()))
    }

    /// Reads every secret except the token to redeem, which the grant holds.
    pub(super) async fn read(&self, overlay: &Overlay) -> Result<Readings, SecretError> {
        let mut secrets = Vec::new();
        for secret in self.secrets() {
            secrets.push(secret.read().await?);
        }
        let (overlay, proofs) = (overlay.clone(), Proofs::default());
        let readings = Readings { secrets, redeemed: None, overlay, proofs };
        let read = self.placed(&readings).headers;
        for ((_, secret), (_, read)) in self.secret_headers.iter().zip(read) {
            check_header(secret, read)?;
        }
        Ok(readings)
    }

    /// Every secret except the token to redeem, in the order of [`Readings`].
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let params = self.params.iter().filter_map(|(_, value)| value.secret());
        let headers = self.secret_headers.iter().map(|(_, secret)| secret);
        let certificate = self.certificate.iter().flat_map(|(certificate, key)| [certificate, key]);
        let proofs = self.prover.iter().flat_map(Prover::secrets);
        let secrets =
            self.client_secret.iter().chain(params).chain(headers).chain(certificate).chain(proofs);
        #[cfg(feature = "jwt")]
        let secrets = secrets.chain(self.service_account.iter().map(ServiceAccount::secret));
        secrets
    }

    /// Makes the assertions of one exchange, if it needs any.
    #[cfg_attr(
        not(feature = "jwt"),
        expect(unused_variables, reason = "only an assertion that this crate signs needs the URL")
    )]
    pub(super) async fn prove(
        &self,
        readings: &Readings,
        to: &Destination,
    ) -> Result<Option<Proofs>, UnusableCredential> {
        let mut proofs = Proofs::default();
        let rest = self.placed(readings).rest;
        if let Some(prover) = &self.prover {
            proofs.client = Some(prover.prove(rest).await?);
        }
        #[cfg(feature = "jwt")]
        if let (Some(account), Some(read)) = (&self.service_account, rest.last()) {
            let scope = self.scope(readings);
            proofs.grant = Some(account.prove(read, scope, &to.uri.to_string()).await?);
        }
        Ok((proofs != Proofs::default()).then_some(proofs))
    }

    /// The tolerated clock skew of assertions that this machine dates.
    pub(super) fn tolerated_skew(&self) -> Option<Duration> {
        #[cfg(feature = "jwt")]
        if self.service_account.is_some() {
            return Some(ServiceAccount::tolerated());
        }
        self.prover.as_ref().and_then(Prover::tolerated_skew)
    }

    /// The requested scope.
    #[cfg(feature = "jwt")]
    fn scope<'a>(&'a self, readings: &'a Readings) -> Option<&'a str> {
        let targets = self.targets.iter().map(|(name, value)| (*name, value.as_str()));
        let asked = readings.overlay.over(targets, std::iter::empty());
        asked.into_iter().find(|(name, _)| *name == SCOPE).map(|(_, scope)| scope)
    }

    /// Whether the scope is a part of the grant, and so not a parameter.
    #[cfg(feature = "jwt")]
    fn signs_scope(&self) -> bool {
        self.service_account.is_some()
    }

    #[cfg(not(feature = "jwt"))]
    #[expect(clippy::unused_self, reason = "the same signature as with feature `jwt`")]
    fn signs_scope(&self) -> bool {
        false
    }

    #[expect(clippy::expect_used, reason = "the readings match the template")]
    fn placed<'a>(&'a self, readings: &'a Readings) -> Placed<'a> {
        let mut read = readings.secrets.iter();
        let mut next = || read.next().expect("each secret has been read").as_str();
        Placed {
            client_secret: self.client_secret.is_some().then(&mut next),
            params: self
                .params
                .iter()
                .map(|(_, value)| value.plain().unwrap_or_else(&mut next))
                .collect(),
            headers: self.secret_headers.iter().map(|(name, _)| (name, next())).collect(),
            identity: self
                .certificate
                .is_some()
                .then(|| Identity { certificate: next(), key: next() }),
            rest: read.as_slice(),
        }
    }

    /// The client certificate and its key, as read.
    pub(super) fn identity<'a>(&'a self, readings: &'a Readings) -> Option<Identity<'a>> {
        self.placed(readings).identity
    }

    pub(super) fn request(
        &self,
        readings: &Readings,
        destination: &Destination,
    ) -> Request<Full<Bytes>> {
        let Destination { uri, client_auth, .. } = destination;
        let placed = self.placed(readings);
        let members = self.members(&placed, readings, *client_auth);
        let (content_type, body) = match self.format {
            BodyFormat::Form => ("application/x-www-form-urlencoded", form(&members)),
            BodyFormat::Json => ("application/json", json(&members)),
        };
        let mut request = Request::new(Full::new(Bytes::from_owner(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.extend(self.headers.clone());
        for (name, secret) in &placed.headers {
            // It was checked when it was read.
            if let Some(header) = secret_header(secret) {
                headers.append(*name, header);
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(user_pass) = self.user_pass(&placed, *client_auth) {
            headers.insert(AUTHORIZATION, basic_header(&user_pass));
        }
        request
    }

    /// A redactor of every secret that the request carries.
    pub(super) fn redactor(&self, readings: &Readings) -> Redactor {
        let mut redactor = Redactor::default();
        let placed = self.placed(readings);
        // Hide it in each form in which it may be sent.
        let joined = [ClientAuth::Basic, ClientAuth::BasicRaw];
        let joined = joined.map(|client_auth| self.user_pass(&placed, client_auth));
        let redeemed = readings.redeemed.as_ref().map(|redeemed| &redeemed.token);
        let read = readings.secrets.iter().chain(redeemed).chain(joined.iter().flatten());
        read.for_each(|secret| redactor.hide(secret));
        readings.proofs.secrets().for_each(|secret| redactor.hide(secret));
        redactor
    }

    /// The parameters in the order of a form.
    fn members<'a>(
        &'a self,
        placed: &Placed<'a>,
        readings: &'a Readings,
        client_auth: ClientAuth,
    ) -> Vec<(&'a str, &'a str)> {
        let mut members = vec![("grant_type", self.grant_type.as_str())];
        if client_auth.is_in_body() {
            members.extend(self.client_id.iter().map(|id| ("client_id", id.as_str())));
            members.extend(placed.client_secret.map(|secret| ("client_secret", secret)));
        }
        if let Some((assertion_type, assertion)) = &readings.proofs.client {
            members.push(("client_assertion_type", assertion_type));
            members.push(("client_assertion", assertion));
        }
        members.extend(readings.proofs.grant.iter().map(|grant| ("assertion", grant.as_str())));
        let redeemed = readings.redeemed.iter();
        members.extend(redeemed.map(|Redeemed { name, token }| (*name, token.as_str())));
        let targets = self.targets.iter().map(|(name, value)| (*name, value.as_str()));
        let names = self.params.iter().map(|(name, _)| name.as_str());
        let params = names.zip(placed.params.iter().copied());
        let asked = readings.overlay.over(targets, params).into_iter();
        members.extend(asked.filter(|(name, _)| *name != SCOPE || !self.signs_scope()));
        members
    }

    fn user_pass(&self, placed: &Placed<'_>, client_auth: ClientAuth) -> Option<Zeroizing<String>> {
        let secret = placed.client_secret.unwrap_or_default();
        client_auth.user_pass(self.client_id.as_deref()?, secret)
    }
}

// ===== Bodies =====

fn form(members: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    let mut body = sized_for(members, 3);
    for (name, value) in members {
        if !body.is_empty() {
            body.push(b'&');
        }
        byte_serialize(name.as_bytes()).for_each(|piece| body.extend(piece.bytes()));
        body.push(b'=');
        byte_serialize(value.as_bytes()).for_each(|piece| body.extend(piece.bytes()));
    }
    body
}

#[derive(Serialize)]
#[serde(untagged)]
enum Values<'a> {
    One(&'a str),
    Many(Vec<&'a str>),
}

#[expect(clippy::expect_used, reason = "texts always serialize, and a vector accepts all writes")]
fn json(members: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    let mut object = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in members {
        object.entry(*name).or_default().push(*value);
    }
    let object = object.into_iter().map(|(name, values)| match values[..] {
        [value] => (name, Values::One(value)),
        _ => (name, Values::Many(values)),
    });
    let mut body = sized_for(members, 6);
    serde_json::to_writer(&mut *body, &object.collect::<BTreeMap<_, _>>())
        .expect("texts always serialize, and a vector accepts all writes");
    body
}

/// The capacity for a body with every byte escaped: a vector that grows leaves copies behind.
#[expect(clippy::arithmetic_side_effects, reason = "lengths in memory do not overflow")]
fn sized_for(members: &[(&str, &str)], escaped: usize) -> Zeroizing<Vec<u8>> {
    let length = |(name, value): &(&str, &str)| escaped * (name.len() + value.len()) + 8;
    Zeroizing::new(Vec::with_capacity(members.iter().map(length).sum::<usize>() + 2))
}

#[cfg(test)]
mod sizes {
    use super::*;

    #[test]
    fn the_capacity_of_the_body_covers_every_byte_escaped() {
        for (escaped, all) in [(3, "%00"), (6, "\\u0000")] {
            let members = [("a", "secret"), ("bc", "")];
            let longest = 9 * all.len();
            let room = sized_for(&members, escaped).capacity();
            // Besides the texts: braces, quotes, a colon and a comma, or a `=` and a `&`.
            assert!((longest + 2 + 2 * 6..longest + 100).contains(&room), "{room}");
        }
        assert!(sized_for(&[("a", &"x".repeat(1000))], 6).capacity() < 6 * 1000 + 100);
    }
}
