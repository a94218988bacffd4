//! The whole stack against authorization servers that others wrote: `oidc-provider` (certified as an
//! `OpenID` provider), with an API that asks it about every token; and `glewlwyd`, for assertions.
//!
//! `tests/interop/run` starts them and runs this; by itself nothing here can run.

mod assertions;
mod clients;
#[cfg(unix)]
mod fleet;
mod glewlwyd;
mod issuers;
mod load;
#[cfg(unix)]
mod member;
#[cfg(unix)]
#[path = "../shared_stores/server.rs"]
mod redis;
mod refresh;
mod restart;
mod revocation;
mod servers;
mod stack;
mod users;
