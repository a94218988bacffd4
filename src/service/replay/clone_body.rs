//! Keeping a clone of the body.

use std::task::{Context, Poll};

use http::Request;

use super::strategy::{Replay, sealed::Sealed};

/// Keeps a clone of the body: for `Full<Bytes>`, `Empty`, `String` and others that are cheap to
/// clone. A clone must yield what the original yields.
#[derive(Clone, Copy, Debug)]
pub struct CloneBody {
    _private: (),
}

impl Sealed for CloneBody {}

impl CloneBody {
    pub(crate) fn new() -> Self {
        Self { _private: () }
    }
}

#[diagnostic::do_not_recommend]
impl<B: Clone> Replay<B> for CloneBody {
    type Body = B;
    type Kept = Option<B>;
    const KEEPS: bool = true;

    #[inline]
    fn keep(&self, body: &B, _: Option<usize>) -> Option<Option<B>> {
        Some(Some(body.clone()))
    }

    #[inline]
    fn pass(&self, request: Request<B>, _: Option<&Option<B>>) -> Request<B> {
        request
    }

    fn can_restore(kept: &Option<B>) -> bool {
        kept.is_some()
    }

    fn poll_void(_: &mut Option<B>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn poll_restore(kept: &mut Option<B>, _: &mut Context<'_>) -> Poll<Option<B>> {
        Poll::Ready(kept.take())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_clone_is_given_out_once() {
        let mut kept = CloneBody::new().keep(&"body", None).unwrap();
        assert!(CloneBody::can_restore(&kept));
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(CloneBody::poll_restore(&mut kept, &mut cx), Poll::Ready(Some("body")));
        assert!(!<CloneBody as Replay<&str>>::can_restore(&kept));
    }
}
