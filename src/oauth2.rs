//! A [`TokenSource`](crate::TokenSource) for an OAuth 2.0 token endpoint (RFC 6749 §3.2).
//!
//! ```
//! use std::convert::Infallible;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower_bearer::{Reason, Secret, TokenRequest, oauth2::TokenEndpoint};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_bearer::BoxError> {
//! // Any tower service can be the transport. Feature `reqwest` has a ready-made one.
//! let service = tower::service_fn(async |request: Request<Full<bytes::Bytes>>| {
//!     assert_eq!(request.headers()["authorization"], "Basic bXktYXBwOnMzY3IzdA==");
//!     let answer = r#"{"access_token":"mF_9.B5f-4.1JqM","expires_in":3600}"#;
//!     Ok::<_, Infallible>(Response::new(answer.to_owned()))
//! });
//! let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
//!     .client_id("my-app")
//!     .client_secret("s3cr3t") // or `Secret::env("CLIENT_SECRET")`, `Secret::file(path)`, …
//!     .scope("invoices.read")
//!     .transport(service)
//!     .build()?;
//!
//! let token = endpoint.fetch(TokenRequest::new(Reason::First)).await?;
//! assert_eq!(token.secret(), "mF_9.B5f-4.1JqM");
//! # Ok(())
//! # }
//! ```
//!
//! # Discovery
//!
//! [`TokenEndpoint::discover`] takes an issuer in place of a URL. The first fetch reads the
//! issuer's metadata (RFC 8414, `OpenID` Connect Discovery), which name the endpoint and the client
//! authentication methods. The service can move the endpoint.
//!
//! # Refresh tokens
//!
//! With [`refresh_token`](TokenEndpointBuilder::refresh_token) each fetch exchanges the current
//! refresh token (RFC 6749 §6). If the answer contains a new one, the next exchange sends that one,
//! and the [hook](TokenEndpointBuilder::on_new_refresh_token) can store it in the background. If
//! not, the endpoint keeps the old one.
//!
//! A service that rotates refresh tokens accepts each of them once. So the endpoint runs one
//! exchange at a time, and other fetches wait for it. The exchange runs on a task of its own and
//! continues even if the fetch is dropped. If its outcome is unknown (a broken connection, a
//! timeout, a 5xx), the endpoint repeats it once, immediately. If the service then refuses the
//! refresh token, the error is [`RefreshTokenLost`](EndpointErrorKind::RefreshTokenLost).
//!
//! # Keys and subjects
//!
//! If a request has a [key](crate::TokenRequest::key), the key's scope, audience, resources and
//! parameters replace those of the endpoint. A key never changes the grant, the client or its
//! credentials. A request on behalf of a subject needs a grant that takes one
//! ([`token_exchange`](TokenEndpointBuilder::token_exchange), `jwt_bearer_on_behalf_of`). Any other
//! grant would return the program's own token, so the request fails and nothing is sent.
//! [`EndpointError::concerns_key_only`] returns whether a failure leaves other keys unaffected.
//!
//! Keys share a refresh token, but no access token. The endpoint runs the exchanges of two keys one
//! after the other, each with the refresh token that the last one returned.
//!
//! # Client authentication
//!
//! A client sends its id and its [secret](TokenEndpointBuilder::client_secret), or authenticates
//! with an [assertion](ClientAssertion), without sending a secret. The assertion is signed with the
//! client's own key or by a KMS, or issued by the platform that the client runs on.
//!
//! # Secrets that change
//!
//! Each fetch reads every [`Secret`](crate::Secret) again. If the service refuses, the endpoint
//! reads them once more. If one has changed, it has just been rotated, and the endpoint repeats the
//! request: immediately, or after a second if a function returned the secret. During a cooldown, a
//! changed secret ends the cooldown early. A value that a function generates at each reading, such
//! as a signed assertion, does not count as changed. If the service keeps refusing, these early
//! attempts become rarer.

mod address;
mod assertion;
mod builder;
#[cfg(feature = "reqwest")]
mod certificate;
mod changes;
mod client_auth;
#[cfg(feature = "reqwest")]
mod client_recipe;
#[cfg(feature = "serde")]
mod config;
mod der;
mod destination;
mod discovery;
mod endpoint;
mod error;
mod overlay;
#[cfg(any(feature = "jwt", feature = "reqwest"))]
mod pem;
pub mod providers;
mod redact;
mod refresh;
mod request;
#[cfg(feature = "reqwest")]
mod reqwest_service;
mod response;
mod text;
mod token_exchange;
mod transport;
#[cfg(any(feature = "jwt", feature = "reqwest"))]
mod x509;

#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
pub use self::config::Config;
#[cfg(feature = "reqwest")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
pub use self::reqwest_service::{ReqwestFuture, ReqwestService};
pub use self::{
    assertion::{AssertionType, Audience, ClientAssertion, Signer, SigningAlgorithm},
    builder::{InvalidEndpoint, TokenEndpointBuilder},
    client_auth::ClientAuth,
    endpoint::TokenEndpoint,
    error::{EndpointError, EndpointErrorKind},
    request::BodyFormat,
    response::Field,
    text::HeaderText,
    token_exchange::{TokenExchange, TokenType},
};
