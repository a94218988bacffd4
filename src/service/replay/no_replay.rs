//! Keeping nothing.

use std::task::{Context, Poll};

use http::Request;

use super::strategy::{Replay, sealed::Sealed};

/// Keeps nothing: the caller gets the rejection as the answer.
#[derive(Clone, Copy, Debug)]
pub struct NoReplay {
    _private: (),
}

impl Sealed for NoReplay {}

impl NoReplay {
    pub(crate) fn new() -> Self {
        Self { _private: () }
    }
}

impl<B> Replay<B> for NoReplay {
    type Body = B;
    type Kept = std::convert::Infallible;
    const KEEPS: bool = false;

    #[inline]
    fn keep(&self, _: &B, _: Option<usize>) -> Option<Self::Kept> {
        None
    }

    #[inline]
    fn pass(&self, request: Request<B>, _: Option<&Self::Kept>) -> Request<B> {
        request
    }

    fn can_restore(kept: &Self::Kept) -> bool {
        match *kept {}
    }

    fn poll_void(kept: &mut Self::Kept, _: &mut Context<'_>) -> Poll<()> {
        match *kept {}
    }

    fn poll_restore(kept: &mut Self::Kept, _: &mut Context<'_>) -> Poll<Option<B>> {
        match *kept {}
    }
}
