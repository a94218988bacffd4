//! The settings of a request's key on top of the endpoint's.

#[cfg(feature = "keyed")]
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::error::{Asked, EndpointErrorKind as Kind};
#[cfg(feature = "keyed")]
use crate::key::{InvalidTokenKey, TokenKey, Unusable};
use crate::source::TokenRequest;

/// Names and values, in order.
type Members<'a> = Vec<(&'a str, &'a str)>;

/// The problem of a key at this endpoint, perhaps with the part of the key that has it.
pub(super) type Problem = (Kind, Option<String>);

/// What a request asks for in addition to the endpoint's settings. Requests with equal overlays are
/// alike.
#[cfg(feature = "keyed")]
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Overlay {
    key: Option<TokenKey>,
}

/// Without feature `keyed` all requests are alike.
#[cfg(not(feature = "keyed"))]
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Overlay;

// ===== impl Overlay =====

#[cfg(feature = "keyed")]
impl Overlay {
    pub(super) fn of(request: &TokenRequest) -> Self {
        Self { key: request.key().cloned() }
    }

    pub(super) fn asked(&self) -> Asked {
        match &self.key {
            None => Asked::Nothing,
            Some(key) if key.subject().is_none() => Asked::Key,
            Some(_) => Asked::Subject,
        }
    }

    /// Whether the endpoint can apply the overlay. If not, nothing may be sent.
    pub(super) fn check<'a>(
        &self,
        takes_subject: bool,
        mut secret_params: impl Iterator<Item = &'a str>,
    ) -> Result<(), Problem> {
        let invalid = |error: InvalidTokenKey| (Kind::InvalidKey, Some(error.to_string()));
        let missing = Err((Kind::SubjectMissing, None));
        let Some(key) = &self.key else { return if takes_subject { missing } else { Ok(()) } };
        match key.usable(SystemTime::now()) {
            Err(Unusable::Invalid(error)) => return Err(invalid(error)),
            Err(Unusable::SubjectExpired) => return Err((Kind::SubjectExpired, None)),
            Ok(()) => {}
        }
        let is_replaced = |secret: &&str| key.params().any(|(name, _)| name == *secret);
        match (key.subject().is_some(), takes_subject) {
            (true, false) => Err((Kind::SubjectNotTaken, None)),
            (false, true) => missing,
            _ => match secret_params.find(is_replaced) {
                Some(name) => Err(invalid(InvalidTokenKey::Param(name.into()))),
                None => Ok(()),
            },
        }
    }

    pub(super) fn subject_token(&self) -> Option<Zeroizing<String>> {
        let subject = self.key.as_ref()?.subject()?;
        Some(Zeroizing::new(subject.token().secret().to_owned()))
    }

    /// The endpoint's own members, replaced by the key's members with the same name.
    pub(super) fn over<'a>(
        &'a self,
        targets: impl Iterator<Item = (&'a str, &'a str)>,
        params: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Members<'a> {
        let Some(key) = &self.key else { return targets.chain(params).collect() };
        let single = [("scope", key.requested_scope()), ("audience", key.requested_audience())];
        let single = single.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let resources = key.requested_resources().map(|resource| ("resource", resource));
        let asked: Members = single.chain(resources).collect();
        let is_asked = |name: &str| asked.iter().any(|(asked, _)| *asked == name);

        let mut members: Members = targets.filter(|(name, _)| !is_asked(name)).collect();
        members.extend(&asked);
        let first = members.len();
        members.extend(params);
        for (name, value) in key.params() {
            match members.iter_mut().skip(first).find(|(own, _)| *own == name) {
                Some(own) => own.1 = value,
                None => members.push((name, value)),
            }
        }
        members
    }
}

#[cfg(not(feature = "keyed"))]
impl Overlay {
    pub(super) fn of(_: &TokenRequest) -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "the same signature as with feature `keyed`")]
    pub(super) fn asked(&self) -> Asked {
        Asked::Nothing
    }

    #[expect(clippy::unused_self, reason = "the same signature as with feature `keyed`")]
    pub(super) fn check<'a>(
        &self,
        takes_subject: bool,
        _: impl Iterator<Item = &'a str>,
    ) -> Result<(), Problem> {
        if takes_subject { Err((Kind::SubjectMissing, None)) } else { Ok(()) }
    }

    #[expect(clippy::unused_self, reason = "the same signature as with feature `keyed`")]
    pub(super) fn subject_token(&self) -> Option<Zeroizing<String>> {
        None
    }

    #[expect(clippy::unused_self, reason = "the same signature as with feature `keyed`")]
    pub(super) fn over<'a>(
        &'a self,
        targets: impl Iterator<Item = (&'a str, &'a str)>,
        params: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Members<'a> {
        targets.chain(params).collect()
    }
}
