//! What a response says about the token that its request carried.

use std::{fmt, sync::Arc};

use http::{Extensions, HeaderMap, HeaderValue, Response, StatusCode, response};

use super::{destination::Destination, header::TokenHeader};
use crate::origin::FinalUri;

/// The gRPC status for missing or invalid credentials.
const UNAUTHENTICATED: &str = "16";

/// A user's rule.
pub(crate) type Judge<P> = Arc<dyn Fn(&P) -> bool + Send + Sync>;

/// The layer's settings for the header that carries the token, and for responses.
#[derive(Clone, Default)]
pub(crate) struct Verdicts {
    pub(crate) header: TokenHeader,
    pub(crate) rejected_when: Option<Judge<response::Parts>>,
    pub(crate) grpc: bool,
}

/// What the rules look at in a response.
#[derive(Clone, Copy)]
pub(crate) struct ResponseHead<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) extensions: &'a Extensions,
    /// Where the response came from, if the client knows. Otherwise [`FinalUri`] may say it.
    pub(crate) came_from: Option<Destination<'a>>,
    /// The whole head, if [the rules](Verdicts::rejected_when) want it.
    pub(crate) parts: Option<&'a response::Parts>,
}

/// What a response says about the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    Rejected,
    /// Nothing: a server's error, a refusal for another reason, an answer from another origin.
    Silent,
}

// ===== impl Verdicts =====

impl Verdicts {
    /// Defines what a rejection is. No other place does.
    pub(super) fn of(&self, response: &ResponseHead<'_>) -> Verdict {
        let grpc_status = self.grpc_status(response.headers);
        let is_rejection = match (&self.rejected_when, response.parts) {
            (Some(judge), Some(parts)) => judge(parts),
            _ => response.status == self.header.rejection(),
        };
        if is_rejection || grpc_status.is_some_and(|it| it == UNAUTHENTICATED) {
            Verdict::Rejected
        } else if response.status.as_u16() < 400 && grpc_status.is_none_or(|it| it == "0") {
            Verdict::Accepted
        } else {
            Verdict::Silent
        }
    }

    /// Whether every response below 400 is an acceptance.
    pub(super) fn is_plain(&self) -> bool {
        self.rejected_when.is_none() && !self.grpc
    }

    /// Looks the header up only for gRPC.
    fn grpc_status<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        if self.grpc { headers.get("grpc-status") } else { None }
    }
}

impl fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verdicts")
            .field("header", &self.header)
            .field("grpc", &self.grpc)
            .finish_non_exhaustive()
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

    /// Where the response came from, if known.
    pub(super) fn came_from(&self) -> Option<Destination<'a>> {
        let final_uri = || self.extensions.get::<FinalUri>().map(|uri| Destination::of(&uri.0));
        self.came_from.or_else(final_uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(grpc: bool, judges: bool) -> Verdicts {
        let judge: Judge<response::Parts> = Arc::new(|_| false);
        Verdicts { rejected_when: judges.then_some(judge), grpc, ..Verdicts::default() }
    }

    #[test]
    fn the_status_alone_tells_an_acceptance_only_where_nothing_else_is_looked_at() {
        assert!(verdicts(false, false).is_plain());
        assert!(!verdicts(true, false).is_plain());
        assert!(!verdicts(false, true).is_plain());
        assert!(!verdicts(true, true).is_plain());
    }

    #[test]
    fn an_answer_below_four_hundred_accepts_and_of_the_others_401_rejects() {
        let of = |status: u16| {
            let response = Response::builder().status(status).body(()).unwrap();
            verdicts(false, false).of(&ResponseHead::of(&response))
        };
        for status in [200, 204, 304, 399] {
            assert_eq!(of(status), Verdict::Accepted, "{status}");
        }
        assert_eq!(of(401), Verdict::Rejected);
        for status in [400, 402, 403, 407, 500] {
            assert_eq!(of(status), Verdict::Silent, "{status}");
        }
    }

    #[test]
    fn what_a_proxy_was_told_is_rejected_by_407_alone() {
        let header = TokenHeader::new("Proxy-Authorization").unwrap();
        let verdicts = Verdicts { header, ..Verdicts::default() };
        let of = |status: u16| {
            let response = Response::builder().status(status).body(()).unwrap();
            verdicts.of(&ResponseHead::of(&response))
        };
        assert_eq!(of(407), Verdict::Rejected);
        assert_eq!(of(401), Verdict::Silent);
    }
}
