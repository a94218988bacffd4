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
//! // Any tower service is a transport; without one, and with feature `reqwest`, there is a
//! // ready-made one.
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
//! # An issuer in place of a URL
//!
//! [`TokenEndpoint::discover`] finds the endpoint by the metadata of its issuer (RFC 8414, `OpenID`
//! Connect Discovery), which the first fetch reads. The service may move the endpoint, and says
//! itself how it wants to be told who the client is.
//!
//! # A refresh token
//!
//! With [`refresh_token`](TokenEndpointBuilder::refresh_token) each fetch exchanges the last
//! refresh token (RFC 6749 §6). If the answer has a new one, the endpoint sends that one next,
//! and the [hook](TokenEndpointBuilder::on_new_refresh_token) can store it, in its own time; if
//! not, the endpoint keeps the old one.
//!
//! A service that rotates refresh tokens takes each of them once. So there is one exchange at a
//! time, and whoever asks meanwhile waits for it. It runs on a task of its own and goes on even
//! if the fetch is dropped. If its outcome never becomes known (a connection that broke, a
//! timeout, a 5xx), the endpoint repeats it once, at once, and then not again. If the service
//! has forgotten the refresh token by then, the error is
//! [`RefreshTokenLost`](EndpointErrorKind::RefreshTokenLost).
//!
//! # Keys, and whom a token is for
//!
//! If a request has a [key](crate::TokenRequest::key), its scope, its audience, its resources and
//! its parameters replace the endpoint's own. A key never changes the grant, the client or its
//! credentials. A request on behalf of a subject is served only by a grant that takes one
//! ([`token_exchange`](TokenEndpointBuilder::token_exchange), `jwt_bearer_on_behalf_of`); any
//! other grant would bring the program's own token, so the request fails and nothing is sent.
//! [`EndpointError::concerns_key_only`] tells whether a failure says something about other keys.
//!
//! Keys share a refresh token, but no access token: the exchanges for two keys follow one
//! another, each with the refresh token that the last one brought.
//!
//! # Who is asking
//!
//! A client shows its id and its [secret](TokenEndpointBuilder::client_secret), or proves who it is
//! by an [assertion](ClientAssertion), for which no secret is sent: signed with a key of its own, by
//! a KMS, or given by the platform that it runs on.
//!
//! # Secrets that change
//!
//! Each fetch reads every [`Secret`](crate::Secret) anew. If the service refuses, the endpoint
//! reads them once more. If one has changed, it had just been rotated, and the endpoint makes the
//! request again: at once, or after a second if a function returned the secret. Later the
//! cooldown ends early when a secret has changed. What a function makes anew at each reading,
//! such as an assertion that it signs, does not count as changed; and if the service goes on refusing,
//! such early tries get rarer.

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
