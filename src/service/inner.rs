//! What the layer can be put around.

/// A service that a [`BearerAuthLayer`](crate::BearerAuthLayer) can be put around: any that is
/// `Clone`.
///
/// [`BearerAuth`](crate::BearerAuth#clone) explains why. If the compiler says that
/// yours is not, derive `Clone` for it, or put a `tower::buffer::Buffer` around it; in place of a
/// `BoxService` take a `BoxCloneService`.
///
/// Calling the stack needs more: see
/// [what the compiler says](crate::BearerAuth#what-the-compiler-says).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the service under a `BearerAuthLayer`, because it is not `Clone`",
    label = "this service is not `Clone`",
    note = "derive `Clone` for it, or put a queue around it: `tower::buffer::Buffer::new(service, \
            64)`, or `.buffer(64)` of `ServiceBuilder`; in place of a `BoxService` take a \
            `BoxCloneService`"
)]
pub trait InnerService: Clone {}

#[diagnostic::do_not_recommend]
impl<S: Clone> InnerService for S {}
