//! A [`TokenSource`] for an OAuth 2.0 token endpoint (RFC 6749 §3.2).
//!
//! ```
//! use std::convert::Infallible;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower_bearer::{Reason, Secret, TokenRequest, TokenSource, oauth2::TokenEndpoint};
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
//! # A refresh token
//!
//! With [`refresh_token`](TokenEndpointBuilder::refresh_token) each fetch exchanges the last
//! refresh token (RFC 6749 §6). If the answer has a new one it takes its place, and the
//! [hook](TokenEndpointBuilder::on_new_refresh_token) can store it, in its own time; if not,
//! the old one is kept. A service that rotates refresh tokens takes each of them once. So there
//! is one exchange at a time, whoever asks meanwhile waits for it, and it is seen through on
//! a task of its own even if the fetch is given up. And an exchange whose outcome never became
//! known (a connection that broke, a timeout, a 5xx) is repeated once, at once, and then not
//! again. If the service has forgotten the refresh token by then, the error is
//! [`RefreshTokenLost`](EndpointErrorKind::RefreshTokenLost).
//!
//! # Secrets that change
//!
//! Every [`Secret`](crate::Secret) is read anew for each fetch. If the service refuses, they are
//! read once more, and if one has changed, the request is made again at once (after a second, if
//! a function returned it): the secret had just been rotated. Later the cooldown ends early when a secret has changed. What a function
//! makes anew each time that it is read, such as a signed assertion, has not changed; and if
//! the service goes on refusing, such early tries get rarer.

mod builder;
mod changes;
mod client_auth;
#[cfg(feature = "serde")]
mod config;
mod endpoint;
mod error;
pub mod providers;
mod redact;
mod refresh;
mod request;
#[cfg(feature = "reqwest")]
mod reqwest_service;
mod response;
mod text;
mod transport;

use std::{fmt, sync::Arc, time::Duration};

#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
pub use self::config::Config;
#[cfg(feature = "reqwest-middleware")]
pub(crate) use self::reqwest_service::final_uri;
#[cfg(feature = "reqwest")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
pub use self::reqwest_service::{ReqwestFuture, ReqwestService};
pub use self::{
    builder::{InvalidEndpoint, TokenEndpointBuilder},
    client_auth::ClientAuth,
    error::{EndpointError, EndpointErrorKind},
    request::BodyFormat,
    response::Field,
    text::HeaderText,
};

use self::{endpoint::Endpoint, refresh::Grant};
use crate::{
    error::TokenError,
    source::{TokenRequest, TokenSource},
    token::AccessToken,
};

/// Fetches access tokens from the token endpoint of an OAuth 2.0 authorization server.
///
/// It is made by [`TokenEndpoint::builder`] or by one of the [`providers`]. Its errors hold an
/// [`EndpointError`]. It needs a tokio runtime, as the [`TokenCache`](crate::TokenCache) does.
pub struct TokenEndpoint {
    endpoint: Arc<Endpoint>,
}

// ===== impl TokenEndpoint =====

impl TokenEndpoint {
    /// Starts with the URL of the endpoint: absolute, `https` unless it is on this machine,
    /// without user info and fragment.
    pub fn builder(url: impl Into<String>) -> TokenEndpointBuilder {
        TokenEndpointBuilder::new(url.into())
    }

    /// Waits until the [hook](TokenEndpointBuilder::on_new_refresh_token) has ended for each new
    /// refresh token that has come so far.
    ///
    /// A program that ends right after a fetch waits for it, because the hook ends with the
    /// runtime. The endpoint can be shared with a cache by an [`Arc`]. A hook that hangs
    /// keeps this waiting.
    pub async fn refresh_tokens_stored(&self) {
        if let Grant::Refresh(refresh) = &self.endpoint.grant {
            refresh.hooks_ended().await;
        }
    }
}

impl TokenSource for TokenEndpoint {
    async fn fetch(&self, request: TokenRequest) -> Result<AccessToken, TokenError> {
        self.endpoint.fetch(request).await
    }

    /// Two exchanges, if each has a [timeout](TokenEndpointBuilder::timeout): a fetch may
    /// need a second one.
    fn attempt_timeout(&self) -> Option<Duration> {
        self.endpoint.attempt_timeout()
    }

    /// Whether a [`Secret`](crate::Secret) reads differently than at the last permanent failure.
    /// One that reads differently each time never does.
    async fn recovered(&self) -> bool {
        self.endpoint.recovered().await
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { origin, template, .. } = &*self.endpoint;
        f.debug_struct("TokenEndpoint")
            .field("origin", origin)
            .field("grant_type", &template.grant_type)
            .field("client_id", &template.client_id)
            .field("client_auth", &template.client_auth)
            .finish_non_exhaustive()
    }
}
