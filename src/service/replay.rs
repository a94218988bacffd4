//! Sending a request again, and what is kept for it.

mod buffer;

use std::task::{Context, Poll};

pub use self::buffer::{BufferBody, KeptBody, ReplayBody};

/// What is kept of a request's body while the request is on its way.
///
/// There are three: [`CloneBody`], [`BufferBody`] and [`NoReplay`]. `Body` is the type that the
/// inner service is handed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot keep a body of type `{B}` to send it again after a 401",
    label = "this body is not `Clone`, or is not what `wrap` takes",
    note = "by default the layer clones the body: call `.buffer_body(limit, wrap)` on the \
            `BearerAuthLayer` to keep a copy of any body while it streams, for instance \
            `.buffer_body(64 * 1024, axum::body::Body::new)`",
    note = "or call `.no_replay()` to keep nothing: a 401 is then returned as it is"
)]
pub trait Replay<B>: Clone {
    /// What the inner service is handed.
    type Body;
    /// What is kept.
    type Kept;

    /// A body that is sent once.
    fn pass(&self, body: B) -> Self::Body;

    /// A body that may be sent again, and what is kept for that; `None` if it cannot be.
    fn keep(&self, body: B) -> (Self::Body, Option<Self::Kept>);

    /// The same body once more, as soon as it can be had; `None` if it cannot. It is not polled
    /// again once it is ready.
    fn poll_restore(kept: &mut Self::Kept, cx: &mut Context<'_>) -> Poll<Option<Self::Body>>;
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

    fn pass(&self, body: B) -> B {
        body
    }

    fn keep(&self, body: B) -> (B, Option<Option<B>>) {
        let kept = Some(body.clone());
        (body, Some(kept))
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

    fn pass(&self, body: B) -> B {
        body
    }

    fn keep(&self, body: B) -> (B, Option<Self::Kept>) {
        (body, None)
    }

    fn poll_restore(kept: &mut Self::Kept, _: &mut Context<'_>) -> Poll<Option<B>> {
        match *kept {}
    }
}
