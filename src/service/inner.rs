//! What a layer can wrap.

/// A service that a [`BearerAuthLayer`](crate::BearerAuthLayer) can wrap: any that is `Clone`.
///
/// [`BearerAuth`](crate::BearerAuth#clone) explains why. If the compiler says that your service is
/// not `Clone`, derive it, or wrap the service in a `tower::buffer::Buffer`; replace a `BoxService`
/// with a `BoxCloneService`.
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
