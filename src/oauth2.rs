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
//! [hook](TokenEndpointBuilder::on_new_refresh_token) can store it; if not, the old one is
//! kept. A service that rotates refresh tokens takes each of them once, so an exchange whose
//! outcome never became known (a connection that broke, a timeout, a 5xx) is repeated once,
//! at once, and then not again. If the service has forgotten the refresh token by then, the
//! error is [`RefreshTokenLost`](EndpointErrorKind::RefreshTokenLost).
//!
//! # Secrets that change
//!
//! Every [`Secret`](crate::Secret) is read anew for each fetch. If the service refuses, they are read once
//! more, and if one has changed, the request is made again at once: the secret had just been
//! rotated.

mod builder;
mod client_auth;
#[cfg(feature = "serde")]
mod config;
mod error;
mod grant;
pub mod providers;
mod redact;
mod request;
#[cfg(feature = "reqwest")]
mod reqwest_service;
mod response;
mod text;
mod transport;

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::runtime::Handle;
use zeroize::Zeroizing;

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

use self::{
    error::EndpointErrorKind as Kind,
    grant::{Grant, Refresh},
    request::{Readings, Template},
    response::{FieldNames, Reply, retry_after},
    transport::{Answer, Transport, TransportError},
};
use crate::{
    error::{CacheError, TokenError},
    observe,
    origin::Origin,
    source::{TokenRequest, TokenSource},
    token::AccessToken,
};

type Outcome<T> = Result<T, EndpointError>;
type RefreshToken = Option<Zeroizing<String>>;

/// What is added to the exchanges' timeouts, so that an exchange that takes too long is
/// reported by its own error and not by the cache's.
const MARGIN: Duration = Duration::from_secs(1);

/// Fetches access tokens from the token endpoint of an OAuth 2.0 authorization server.
///
/// It is made by [`TokenEndpoint::builder`] or by one of the [`providers`]. Its errors hold an
/// [`EndpointError`]. It needs a tokio runtime, as the [`TokenCache`](crate::TokenCache) does.
pub struct TokenEndpoint {
    origin: Origin,
    template: Template,
    grant: Grant,
    names: FieldNames,
    timeout: Option<Duration>,
    transport: Box<dyn Transport>,
    failure: Mutex<Option<Failure>>,
}

/// The last failure that somebody has to mend.
#[derive(Clone)]
struct Failure {
    request: TokenRequest,
    read: LastRead,
}

/// What was read before a failure.
#[derive(Clone)]
enum LastRead {
    Known(Readings),
    /// A secret could not be read.
    Unreadable,
    /// Something reads differently each time (a signed assertion, say), which tells nothing.
    Restless,
}

// ===== impl TokenEndpoint =====

impl TokenEndpoint {
    /// Starts with the URL of the endpoint: absolute, `https` unless it is on this machine,
    /// without user info and fragment.
    pub fn builder(url: impl Into<String>) -> TokenEndpointBuilder {
        TokenEndpointBuilder::new(url.into())
    }

    /// Fetches a token, and once more at once if the service refuses and what would be sent
    /// has changed meanwhile.
    async fn attempt(&self, request: &TokenRequest) -> (Outcome<AccessToken>, LastRead) {
        let mut readings = match self.read(request).await {
            Ok(readings) => readings,
            Err(error) => return (Err(error), LastRead::Unreadable),
        };
        let mut is_second = false;
        loop {
            let outcome = self.redeem(&readings).await;
            if !outcome.as_ref().is_err_and(EndpointError::blames_the_request) {
                return (outcome, LastRead::Known(readings));
            }
            let Ok(fresh) = self.read(request).await else {
                return (outcome, LastRead::Unreadable);
            };
            if fresh == readings {
                return (outcome, LastRead::Known(readings));
            }
            if is_second {
                return (outcome, LastRead::Restless);
            }
            (readings, is_second) = (fresh, true);
        }
    }

    /// Reads what has to be sent for this request.
    async fn read(&self, request: &TokenRequest) -> Outcome<Readings> {
        let read = async {
            let mut readings = self.template.read().await?;
            if let Grant::Refresh(refresh) = &self.grant {
                readings.refresh_token = Some(refresh.choose(request).await?);
            }
            Ok(readings)
        };
        read.await.map_err(|error| EndpointError::credential(&error, &self.origin))
    }

    /// Has the grant redeemed; one that may be good for one exchange only, with care.
    async fn redeem(&self, readings: &Readings) -> Outcome<AccessToken> {
        let (Grant::Refresh(refresh), Some(sent)) = (&self.grant, &readings.refresh_token) else {
            return self.exchange(readings).await.map(|(token, _)| token);
        };
        match self.refresh(refresh, sent, readings).await {
            Err(error) if error.is_ambiguous() => {
                let again = self.refresh(refresh, sent, readings).await;
                again.map_err(EndpointError::settled)
            }
            outcome => outcome,
        }
    }

    /// Exchanges a refresh token, and sees to it that what came of it is not forgotten.
    async fn refresh(
        &self,
        refresh: &Refresh,
        sent: &Zeroizing<String>,
        readings: &Readings,
    ) -> Outcome<AccessToken> {
        let was_in_doubt = refresh.sending(sent);
        match self.exchange(readings).await {
            Ok((token, new)) => {
                refresh.settled();
                let new = new.as_ref().unwrap_or(sent);
                if new != sent {
                    refresh.replaced(sent, new).await;
                }
                Ok(token.with_refresh_token(new.as_str()))
            }
            Err(error) if error.is_invalid_grant() => {
                refresh.refused(sent);
                Err(if was_in_doubt { error.lost() } else { error })
            }
            Err(error) => {
                if !was_in_doubt && !error.is_ambiguous() {
                    refresh.settled();
                }
                Err(error)
            }
        }
    }

    /// One request and its answer: the access token, and the refresh token beside it.
    async fn exchange(&self, readings: &Readings) -> Outcome<(AccessToken, RefreshToken)> {
        let exchange = self.transport.exchange(self.template.request(readings));
        let answer = match self.timeout {
            None => exchange.await,
            Some(timeout) => match tokio::time::timeout(timeout, exchange).await {
                Ok(answer) => answer,
                Err(_) => return Err(self.error(Kind::Timeout)),
            },
        };
        match answer {
            Ok(answer) => self.judge(answer, readings),
            Err(broken) => Err(self.broken(broken, readings)),
        }
    }

    fn judge(
        &self,
        Answer { head, body }: Answer,
        readings: &Readings,
    ) -> Outcome<(AccessToken, RefreshToken)> {
        let wait = retry_after(&head.headers, SystemTime::now());
        let failed = |error: EndpointError| error.with_head(head.status, wait);
        if head.status.is_redirection() {
            return Err(failed(self.error(Kind::Redirected)));
        }
        let is_success = head.status.is_success();
        let body = match body {
            Err(broken) if is_success => return Err(failed(self.broken(broken, readings))),
            // The status says enough.
            body => body.unwrap_or_default(),
        };
        match Reply::read(&body, &self.names) {
            Ok(reply) if is_success && !reply.is_error() => {
                let token = reply.access_token().map_err(|kind| failed(self.error(kind)))?;
                Ok((token, reply.refresh_token()))
            }
            Err(kind) if is_success => Err(failed(self.error(kind))),
            reply => Err(failed(self.refusal(reply.ok().as_ref(), readings))),
        }
    }

    fn refusal(&self, reply: Option<&Reply>, readings: &Readings) -> EndpointError {
        let error = self.error(Kind::Refused);
        let Some(reply) = reply else { return error };
        let mut redactor = self.template.redactor(readings);
        reply.strike_tokens(&mut redactor);
        error.with_oauth(reply.error(), reply.error_description(), &redactor)
    }

    fn broken(&self, broken: TransportError, readings: &Readings) -> EndpointError {
        let (kind, cause) = match broken {
            TransportError::Unsent(cause) => (Kind::Unreachable, cause),
            TransportError::Interrupted(cause) => (Kind::Interrupted, cause),
            TransportError::TooLarge => return self.error(Kind::TooLarge),
        };
        self.error(kind).with_cause(cause.as_ref(), &self.template.redactor(readings))
    }

    fn error(&self, kind: Kind) -> EndpointError {
        EndpointError::new(kind, &self.origin)
    }

    fn failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenSource for TokenEndpoint {
    async fn fetch(&self, request: TokenRequest) -> Result<AccessToken, TokenError> {
        if Handle::try_current().is_err() {
            return Err(CacheError::NoRuntime.into());
        }
        let (outcome, read) = self.attempt(&request).await;
        let is_permanent = outcome.as_ref().is_err_and(|error| !error.is_transient());
        *self.failure() = is_permanent.then_some(Failure { request, read });
        outcome.map_err(|error| {
            observe::endpoint_error(error.label());
            error.into()
        })
    }

    /// Two exchanges, if each has a [timeout](TokenEndpointBuilder::timeout): a fetch may
    /// need a second one.
    fn attempt_timeout(&self) -> Option<Duration> {
        self.timeout.map(|timeout| timeout.saturating_mul(2).saturating_add(MARGIN))
    }

    /// Whether a [`Secret`](crate::Secret) reads differently than at the last permanent failure.
    async fn recovered(&self) -> bool {
        let Some(Failure { request, read }) = self.failure().clone() else { return false };
        match (read, self.read(&request).await) {
            (LastRead::Known(before), Ok(now)) => now != before,
            (LastRead::Unreadable, Ok(_)) => true,
            _ => false,
        }
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint")
            .field("origin", &self.origin)
            .field("grant_type", &self.template.grant_type)
            .field("client_id", &self.template.client_id)
            .field("client_auth", &self.template.client_auth)
            .finish_non_exhaustive()
    }
}
