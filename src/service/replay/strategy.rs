//! What every replay strategy provides.

use std::task::{Context, Poll};

use http::Request;

/// How the layer keeps a request's body for a replay while the request is in flight.
///
/// There are three strategies: [`CloneBody`](crate::CloneBody), [`BufferBody`](crate::BufferBody)
/// and [`NoReplay`](crate::NoReplay). The trait is sealed. `Body` is the body type that the inner
/// service gets.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot keep a body of type `{B}` to send it again after a 401",
    label = "this body is not `Clone`, or is not what `wrap` takes",
    note = "by default the layer clones the body: call `.buffer_body(limit, wrap)` on the \
            `BearerAuthLayer` to keep a copy of any body while it streams, for instance \
            `.buffer_body(64 * 1024, axum::body::Body::new)`",
    note = "or call `.no_replay()` to keep nothing: a 401 is then returned as it is"
)]
pub trait Replay<B>: Clone + sealed::Sealed {
    /// The body that the inner service gets.
    type Body;
    /// What the strategy keeps of a body.
    #[doc(hidden)]
    type Kept;
    /// Whether the strategy ever keeps anything.
    #[doc(hidden)]
    const KEEPS: bool;

    /// Keeps what a replay of the body needs; `None` if the body cannot be sent again.
    #[doc(hidden)]
    fn keep(&self, body: &B, limit: Option<usize>) -> Option<Self::Kept>;

    /// Makes the request that the inner service gets. This takes requests, not bodies, because
    /// bodies are large: a strategy that does not change the body must not move it.
    #[doc(hidden)]
    fn pass(&self, request: Request<B>, kept: Option<&Self::Kept>) -> Request<Self::Body>;

    /// Whether the body can still be restored.
    #[doc(hidden)]
    fn can_restore(kept: &Self::Kept) -> bool;

    /// Ready as soon as the body can never be restored.
    #[doc(hidden)]
    fn poll_void(kept: &mut Self::Kept, cx: &mut Context<'_>) -> Poll<()>;

    /// The same body again, as soon as it is available; `None` if it never is. The caller does not
    /// poll again after `Ready`.
    #[doc(hidden)]
    fn poll_restore(kept: &mut Self::Kept, cx: &mut Context<'_>) -> Poll<Option<Self::Body>>;
}

/// Other crates cannot implement a trait that they cannot name.
pub(crate) mod sealed {
    #[expect(unnameable_types, reason = "that is how it seals")]
    pub trait Sealed {}
}
