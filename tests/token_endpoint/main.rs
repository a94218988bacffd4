//! `TokenEndpoint` through its public API, against services that say what the test wants.

mod assertion;
#[cfg(feature = "jwt")]
mod assertion_keys;
#[cfg(feature = "jwt")]
mod assertion_providers;
mod assertion_support;
mod bad_input;
#[cfg(feature = "reqwest")]
mod certificate;
mod discovery;
mod errors;
mod exchange;
mod grants;
#[cfg(feature = "keyed")]
mod keys;
#[path = "../common/log.rs"]
mod log;
#[cfg(feature = "reqwest")]
mod mutual_tls;
#[cfg(feature = "keyed")]
mod on_behalf_of;
mod providers;
#[cfg(feature = "reqwest")]
mod ready_made;
mod rotation;
#[path = "../common/scripted.rs"]
mod scripted;
mod secrets;
#[cfg(feature = "reqwest")]
mod sockets;
mod support;
#[cfg(feature = "reqwest")]
#[path = "../../examples/loopback/tls.rs"]
mod tls;
mod vectors;
mod wire;
