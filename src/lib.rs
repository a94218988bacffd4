//! Outbound bearer authentication for tower client stacks.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cache;
mod challenge;
mod error;
mod layer;
pub mod local;
mod log;
#[cfg(feature = "oauth2")]
#[cfg_attr(docsrs, doc(cfg(feature = "oauth2")))]
pub mod oauth2;
mod origin;
mod secret;
mod service;
mod source;
mod token;

pub use cache::{
    InvalidPolicy, RefreshPolicy, RefreshPolicyBuilder, Rejection, Status, TokenCache,
};
pub use challenge::Challenge;
pub use error::{CacheError, TokenError};
pub use layer::{BearerAuthLayer, Elsewhere, Refused};
pub use origin::{InvalidOrigin, Origin};
pub use secret::{Secret, SecretError, SecretFault};
pub use service::{
    BearerAuth, BufferBody, CloneBody, KeptBody, NoReplay, Replay, ReplayBody, ResponseFuture,
    SkipAuth,
};
pub use source::{FromFn, Reason, TokenRequest, TokenSource, from_fn};
pub use token::{AccessToken, InvalidToken};

/// Any error, as tower's own middleware has it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
