//! What every way of keeping a body has to offer.

use std::task::{Context, Poll};

use http::Request;

/// What is kept of a request's body while the request is on its way.
///
/// There are three: [`CloneBody`](crate::CloneBody), [`BufferBody`](crate::BufferBody) and
/// [`NoReplay`](crate::NoReplay); the trait is sealed. `Body`
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

    /// The same body once more, as soon as it is available; `None` if it never is. The caller does not poll
    /// again once it is ready.
    #[doc(hidden)]
    fn poll_restore(kept: &mut Self::Kept, cx: &mut Context<'_>) -> Poll<Option<Self::Body>>;
}

/// Other crates cannot implement a trait that they cannot name.
pub(crate) mod sealed {
    #[expect(unnameable_types, reason = "that is how it seals")]
    pub trait Sealed {}
}
