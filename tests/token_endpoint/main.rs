//! `TokenEndpoint` through its public API, against services that say what the test wants.

mod bad_input;
mod errors;
mod grants;
mod providers;
mod rotation;
mod secrets;
#[cfg(feature = "reqwest")]
mod sockets;
mod support;
mod vectors;
mod wire;
