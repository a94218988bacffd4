//! What the layer keeps while the inner service has the request.

use std::mem;

use http::{Request, Response, request};

use super::{
    placed::Placed,
    replay::{KeptHead, Replay},
};
use crate::{
    exchange::Exchange,
    rules::{Keep, Rules},
};

/// What the layer keeps while the inner service has the request.
pub(super) enum Walk<S, R: Replay<B>, B> {
    /// The request passes untouched.
    Untouched,
    /// Nothing of the request is kept: a rejection is the answer.
    Once(Exchange),
    /// The request can be sent again.
    Twice(Placed<Kept<S, R, B>>),
}

/// Everything that a second call needs.
pub(super) struct Kept<S, R: Replay<B>, B> {
    pub(super) exchange: Exchange,
    pub(super) head: KeptHead,
    pub(super) body: R::Kept,
    /// For the second call. It may not be ready.
    pub(super) service: S,
}

/// Puts the token on the request, and returns what the layer keeps.
#[inline]
pub(super) fn set_out<S: Clone, R: Replay<B>, B>(
    exchange: Exchange,
    request: &mut Request<B>,
    keep: Keep,
    replay: &R,
    service: &S,
) -> Walk<S, R, B> {
    let Keep::UpTo(limit) = keep else { return set_out_once(exchange, request) };
    let Some(body) = replay.keep(request.body(), limit) else {
        return set_out_once(exchange, request);
    };
    let service = service.clone();
    let mut kept = Placed::with(|| Kept { exchange, head: KeptHead::new(request), body, service });
    kept.head.keep_headers(request.headers());
    if kept.exchange.put(request.headers_mut()) { Walk::Twice(kept) } else { Walk::Untouched }
}

#[inline]
fn set_out_once<S, R: Replay<B>, B>(exchange: Exchange, request: &mut Request<B>) -> Walk<S, R, B> {
    if exchange.put(request.headers_mut()) { Walk::Once(exchange) } else { Walk::Untouched }
}

/// How much of the request may be kept.
#[inline]
pub(super) fn how_much_to_keep<R: Replay<B>, B>(request: &mut Request<B>, rules: &Rules) -> Keep {
    if !R::KEEPS {
        Keep::Nothing
    } else if rules.replay_if.is_none() {
        rules.keep(request.extensions(), None)
    } else {
        with_parts(request, |parts| rules.keep(&parts.extensions, Some(parts)))
    }
}

/// Shows the whole head of a request to a user's rule. The head is lent, not copied.
#[cold]
fn with_parts<B, T>(request: &mut Request<B>, look: impl FnOnce(&request::Parts) -> T) -> T {
    let (mut parts, ()) = Request::new(()).into_parts();
    let mut swap = |parts: &mut request::Parts| {
        mem::swap(&mut parts.method, request.method_mut());
        mem::swap(&mut parts.uri, request.uri_mut());
        mem::swap(&mut parts.version, request.version_mut());
        mem::swap(&mut parts.headers, request.headers_mut());
        mem::swap(&mut parts.extensions, request.extensions_mut());
    };
    swap(&mut parts);
    let seen = look(&parts);
    swap(&mut parts);
    seen
}

// ===== impl Walk =====

impl<S, R: Replay<B>, B> Walk<S, R, B> {
    /// What is kept of the body.
    #[inline]
    pub(super) fn kept(&self) -> Option<&R::Kept> {
        match self {
            Self::Twice(kept) => Some(&kept.body),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn exchange(&self) -> Option<&Exchange> {
        match self {
            Self::Untouched => None,
            Self::Once(exchange) => Some(exchange),
            Self::Twice(kept) => Some(&kept.exchange),
        }
    }

    /// Whether the response says nothing new, so that the walk is over. What was kept is then
    /// dropped.
    #[inline]
    pub(super) fn ends_with<ResBody>(&mut self, response: &Response<ResBody>) -> bool {
        let is_granted = |exchange: &Exchange| exchange.takes_for_granted(response.status());
        match self {
            Self::Untouched => true,
            Self::Once(exchange) => is_granted(exchange),
            Self::Twice(kept) if is_granted(&kept.exchange) => {
                *self = Self::Untouched;
                true
            }
            Self::Twice(_) => false,
        }
    }
}
