//! Sending a request again, and what is kept for it.

mod buffer;
mod head;

use std::task::{Context, Poll};

use http::Request;

pub use self::buffer::{BufferBody, KeptBody, ReplayBody};
pub(super) use self::head::KeptHead;

/// What is kept of a request's body while the request is on its way.
///
/// There are three: [`CloneBody`], [`BufferBody`] and [`NoReplay`]; the trait is sealed. `Body`
/// is the type that the inner service is handed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot keep a body of type `{B}` to send it again after a 401",
    label = "this body is not `Clone`, or is not what `wrap` takes",
    note = "by default the layer clones the body: call `.buffer_body(limit, wrap)` on the \
            `BearerAuthLayer` to keep a copy of any body while it streams, for instance \
            `.buffer_body(64 * 1024, axum::body::Body::new)`",
    note = "or call `.no_replay()` to keep nothing: a 401 is then returned as it is"
)]
pub trait Replay<B>: Clone + sealed::Sealed {
    /// What the inner service is handed.
    type Body;
    /// What is kept.
    #[doc(hidden)]
    type Kept;
    /// Whether anything is ever kept.
    #[doc(hidden)]
    const KEEPS: bool;

    /// What is kept of a body that is about to be sent; `None` if it cannot be sent again.
    #[doc(hidden)]
    fn keep(&self, body: &B, limit: Option<usize>) -> Option<Self::Kept>;

    /// The request as the inner service is handed it. It takes requests, not bodies, because
    /// those are large: what leaves the body as it is must not move it.
    #[doc(hidden)]
    fn pass(&self, request: Request<B>, kept: Option<&Self::Kept>) -> Request<Self::Body>;

    /// Whether what was kept can still become the body once more.
    #[doc(hidden)]
    fn can_restore(kept: &Self::Kept) -> bool;

    /// Ready as soon as what was kept can never become the body again.
    #[doc(hidden)]
    fn poll_void(kept: &mut Self::Kept, cx: &mut Context<'_>) -> Poll<()>;

    /// The same body once more, as soon as it can be had; `None` if it cannot. It is not polled
    /// again once it is ready.
    #[doc(hidden)]
    fn poll_restore(kept: &mut Self::Kept, cx: &mut Context<'_>) -> Poll<Option<Self::Body>>;
}

mod sealed {
    #[expect(unnameable_types, reason = "what cannot be named cannot be implemented")]
    pub trait Sealed {}

    impl Sealed for super::CloneBody {}
    impl Sealed for super::NoReplay {}
    impl<F> Sealed for super::BufferBody<F> {}
}

// ===== impl CloneBody =====

/// Keeps a clone of the body: for `Full<Bytes>`, `Empty`, `String` and others that are cheap to
/// clone. A clone has to yield what the original would have.
#[derive(Clone, Copy, Debug)]
pub struct CloneBody {
    _private: (),
}

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

// ===== impl NoReplay =====

/// Keeps nothing: a rejection is the answer.
#[derive(Clone, Copy, Debug)]
pub struct NoReplay {
    _private: (),
}

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
