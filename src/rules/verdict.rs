//! What a response says of the token that its request carried.

use std::fmt;

use http::{Extensions, HeaderMap, HeaderValue, Response, StatusCode, response};

use super::{Destination, Judge, pass::Target};
use crate::{cache::Rejection, challenge::Challenge, origin::FinalUri, token::AccessToken};

/// The status of gRPC for credentials that are missing or no good.
const UNAUTHENTICATED: &str = "16";

/// What the layer was told about responses.
#[derive(Clone, Default)]
pub(crate) struct Verdicts {
    pub(crate) rejected_when: Option<Judge<response::Parts>>,
    pub(crate) grpc: bool,
}

/// What is looked at of a response.
#[derive(Clone, Copy)]
pub(crate) struct ResponseHead<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) extensions: &'a Extensions,
    /// Where it came from, if the client knows; else [`FinalUri`] says it, or nothing does.
    pub(crate) came_from: Option<Destination<'a>>,
    /// The whole head, if [the rules](Verdicts::rejected_when) want it.
    pub(crate) parts: Option<&'a response::Parts>,
}

/// What a response says of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    Rejected,
    /// Nothing: a server's error, a refusal for another reason, an answer of another origin.
    Silent,
}

// ===== impl Verdicts =====

impl Verdicts {
    /// What a rejection is, stands here and nowhere else.
    pub(super) fn of(&self, target: &Target, response: &ResponseHead<'_>) -> Verdict {
        let grpc_status = self.grpc_status(response.headers);
        let is_rejection = match (&self.rejected_when, response.parts) {
            (Some(judge), Some(parts)) => judge(parts),
            _ => response.status == StatusCode::UNAUTHORIZED,
        };
        let verdict = if is_rejection || grpc_status.is_some_and(|it| it == UNAUTHENTICATED) {
            Verdict::Rejected
        } else if response.status.as_u16() < 400 && grpc_status.is_none_or(|it| it == "0") {
            Verdict::Accepted
        } else {
            Verdict::Silent
        };
        if response.is_from_another_origin(target) { Verdict::Silent } else { verdict }
    }

    /// Whether every response below 400 is an acceptance.
    pub(super) fn is_plain(&self) -> bool {
        self.rejected_when.is_none() && !self.grpc
    }

    /// The header is looked up only where gRPC is spoken.
    fn grpc_status<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        if self.grpc { headers.get("grpc-status") } else { None }
    }
}

impl fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verdicts").field("grpc", &self.grpc).finish_non_exhaustive()
    }
}

/// The rejection, with the challenge that speaks for a bearer client.
pub(super) fn rejection(
    target: &Target,
    token: &AccessToken,
    response: &ResponseHead<'_>,
) -> Rejection {
    let rejection = Rejection::new(token.clone()).with_origin(target.origin.clone());
    match Challenge::decisive(Challenge::from_headers(response.headers)) {
        Some(challenge) => rejection.with_challenge(challenge),
        None => rejection,
    }
}

// ===== impl ResponseHead =====

impl<'a> ResponseHead<'a> {
    pub(crate) fn of<B>(response: &'a Response<B>) -> Self {
        Self {
            status: response.status(),
            headers: response.headers(),
            extensions: response.extensions(),
            came_from: None,
            parts: None,
        }
    }

    pub(crate) fn of_parts(parts: &'a response::Parts) -> Self {
        Self {
            status: parts.status,
            headers: &parts.headers,
            extensions: &parts.extensions,
            came_from: None,
            parts: Some(parts),
        }
    }

    /// A token does not follow a redirect, so the answer at its end says nothing of it.
    fn is_from_another_origin(&self, target: &Target) -> bool {
        if let Some(came_from) = self.came_from {
            return !target.is(came_from);
        }
        // No extension, no look-up.
        let final_uri =
            if self.extensions.is_empty() { None } else { self.extensions.get::<FinalUri>() };
        final_uri.is_some_and(|uri| !target.is(Destination::of(&uri.0)))
    }
}
