//! The `testing` module, met by this crate's own layer over real sockets.

mod bad_input;
mod dialects;
mod failures;
mod flow;
mod support;
#[cfg(feature = "keyed")]
mod users;
