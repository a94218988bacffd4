//! The whole stack against authorization servers that others wrote: `oidc-provider` (certified as an
//! `OpenID` provider), with an API that asks it about every token; and `glewlwyd`, for assertions.
//!
//! `tests/interop/run` starts them and runs this; by itself nothing here can run.

mod assertions;
mod clients;
mod glewlwyd;
mod issuers;
mod load;
mod refresh;
mod restart;
mod revocation;
mod servers;
mod stack;
mod users;
