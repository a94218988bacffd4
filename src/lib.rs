//! Outbound bearer authentication for [tower] client stacks.
//!
//! ```
//! # #[cfg(feature = "oauth2")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_bearer::BoxError> {
//! # use bytes::Bytes;
//! # use http::{Response, header::AUTHORIZATION};
//! # use http_body_util::Full;
//! use http::Request;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_bearer::{BearerAuthLayer, oauth2::TokenEndpoint};
//! # let token_service = tower::service_fn(async |_: Request<Full<Bytes>>| {
//! #     let answer = r#"{"access_token":"mF_9.B5f-4.1JqM","expires_in":3600}"#;
//! #     Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from(answer)))
//! # });
//! # let http_client = tower::service_fn(async |request: Request<String>| {
//! #     assert_eq!(request.headers()[AUTHORIZATION], "Bearer mF_9.B5f-4.1JqM");
//! #     Ok::<_, std::convert::Infallible>(Response::new(String::new()))
//! # });
//!
//! let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
//!     .client_id("my-app")
//!     .client_secret("s3cr3t") // or `Secret::env("CLIENT_SECRET")`, `Secret::file(path)`, …
//! #   .transport(token_service)
//!     .build()?;
//! let api = ServiceBuilder::new()
//!     .layer(BearerAuthLayer::new(endpoint).origin("https://api.example.com")?)
//!     .service(http_client); // hyper-util's, `oauth2::ReqwestService`, your own, …
//!
//! let request = Request::get("https://api.example.com/v1/invoices").body(String::new())?;
//! let response = api.clone().oneshot(request).await?;
//! assert_eq!(response.status(), 200);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "oauth2"))]
//! # fn main() {}
//! ```
//!
//! # What happens to a request
//!
//! | the token is | the request |
//! | --- | --- |
//! | usable | carries it: no lock, no task; one allocation, for the copy that a replay needs |
//! | near its end (*due*) | carries it too, and one refresh starts in the background |
//! | missing or expired | waits for one fetch, however many requests wait |
//! | rejected with a 401 | is sent again, once, with a newer token: one fetch for all that were rejected |
//!
//! A failed fetch does not remove a token: requests use it until it expires, even after a 401 if
//! there is no other. The caller then gets that 401, with its body. Without a token the request
//! fails with the [`TokenError`] of the last fetch, and the layer sends nothing. The source cools
//! down between failed fetches, and every failure is eventually retried.
//!
//! A token goes only to the origins that you named, and only over TLS or to this machine. The crate
//! never shows it: see [`BearerAuthLayer`].
//!
//! # Where tokens come from
//!
//! - a token endpoint of OAuth 2.0: [`oauth2::TokenEndpoint`], and [`oauth2::providers`] for
//!   services that are known by name
//! - this machine: a variable, a file, a command: [`local`]
//! - anything else: an async function ([`from_fn`]) or a [`TokenSource`] of your own. It makes one
//!   attempt per fetch, and classifies each failure as [`TokenError::transient`] or
//!   [`TokenError::permanent`]. The cache does the rest.
//!
//! Credentials are [`Secret`]s. A source reads them again for each fetch, so a rotated credential
//! needs no restart.
//!
//! # The pieces alone
//!
//! A [`TokenCache`] is useful without the layer: [`get`](TokenCache::get) for a program that needs
//! only a token, [`status`](TokenCache::status) for a readiness probe,
//! [`subscribe`](TokenCache::subscribe) for a long-lived stream that must know before its token
//! expires. The clones of a cache share one token, so several stacks can share it too. The methods
//! of [`RefreshPolicyBuilder`] set the cache's limits and intervals.
//!
//! # More
//!
//! The [`guide`] has a chapter for each question: choosing or writing a source, the client stacks,
//! keys and users, fleets, failures, the order of layers, redirects, observability, testing, and
//! migration from hand-written code.
//!
//! # Calling a stack
//!
//! A stack accepts requests with any body. Where the compiler cannot infer which body you mean
//! (`api.ready().await?.call(request)`), let the request decide: `api.clone().oneshot(request)`.
//! Clones are cheap.
//!
//! # Features
//!
//! | feature | default | what it brings |
//! | --- | --- | --- |
//! | `keyed` | yes | a token for each scope, resource or user: `TokenKey`, `KeyedTokenCache` |
//! | `oauth2` | yes | [`oauth2`], over a transport that you give |
//! | `reqwest` | yes | the ready-made transport (rustls), and [`oauth2::ReqwestService`] |
//! | `jwt` | no | assertions and grants that this program signs itself |
//! | `reqwest-middleware` | no | `BearerAuthMiddleware`, the layer for reqwest-middleware |
//! | `tracing` | yes | log events: fetches and replays at `debug`, failures at `warn` |
//! | `metrics` | no | counters, histograms and a gauge, through the `metrics` facade |
//! | `serde` | no | [`RefreshPolicy`], [`Secret`] and `oauth2::Config` as data: TOML, JSON, … |
//! | `command` | no | `local::TokenCommand`, the source that runs a command |
//! | `shared` | no | `shared`: one token for many processes, over files or a store of your own |
//! | `redis` | no | `shared::RedisStore`: the same over Redis or Valkey |
//! | `testing` | no | `testing`: a token service and a protected API on loopback |
//!
//! Without default features the dependency tree has no serde, no TLS and no reqwest.
//!
//! [tower]: https://docs.rs/tower
#![forbid(unsafe_code)]
// Nothing panics. What does all the same says why it cannot.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cache;
mod challenge;
mod clock;
#[cfg(feature = "serde")]
mod data;
mod error;
mod exchange;
pub mod guide;
#[cfg(any(feature = "oauth2", feature = "command"))]
mod json;
#[cfg(feature = "keyed")]
mod key;
mod layer;
pub mod local;
#[cfg(feature = "reqwest-middleware")]
mod middleware;
#[cfg(feature = "oauth2")]
#[cfg_attr(docsrs, doc(cfg(feature = "oauth2")))]
pub mod oauth2;
mod observe;
mod origin;
mod rules;
mod secret;
mod service;
#[cfg(feature = "shared")]
#[cfg_attr(docsrs, doc(cfg(feature = "shared")))]
pub mod shared;
mod source;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "its callers are tests: a panic fails one"
)]
pub mod testing;
mod token;

#[cfg(feature = "keyed")]
#[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
pub use cache::keyed::{Evicted, KeyedTokenCache, KeyedTokenCacheBuilder};
pub use cache::{
    InvalidPolicy, RefreshPolicy, RefreshPolicyBuilder, Rejection, Status, TokenCache,
};
pub use challenge::Challenge;
pub use error::{BoxError, CacheError, Refused, TokenError};
#[cfg(feature = "keyed")]
#[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
pub use key::{InvalidTokenKey, NoSubject, Subject, TokenKey};
pub use layer::BearerAuthLayer;
#[cfg(feature = "reqwest-middleware")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest-middleware")))]
pub use middleware::BearerAuthMiddleware;
#[cfg(feature = "metrics")]
pub use observe::describe_metrics;
pub use origin::{FinalUri, InvalidOrigin, Origin};
pub use rules::{InvalidTokenHeader, ReplayLimit, SkipAuth, TokenHeader, Tokens, UnlistedOrigin};
pub use secret::{Secret, SecretError, SecretErrorKind};
pub use service::{
    BearerAuth, BufferBody, CloneBody, InnerService, KeptBody, NoReplay, Replay, ReplayBody,
    ResponseFuture,
};
pub use source::{FromFn, Reason, TokenRequest, TokenSource, from_fn};
pub use token::{AccessToken, InvalidToken};

/// The README's examples compile.
#[cfg(all(doctest, unix, feature = "metrics", feature = "reqwest-middleware", feature = "shared"))]
#[doc = include_str!("../README.md")]
pub struct Readme;
