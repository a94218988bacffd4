//! The token service.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;

use super::{
    CLIENT_ID, Dialect, Failure, Held,
    counter::Counter,
    dialect::{Grant, Issued, Refusal},
    failure,
    gate::Gate,
    issued_tokens::IssuedTokens,
    script::Script,
    server::{Answer, Cut, Handler, Server, boxed, early},
};
use crate::oauth2::{TokenEndpoint, TokenEndpointBuilder, providers};

/// How much of a request is read.
const MAX_BODY: usize = 64 * 1024;

/// A token service that a test controls. It knows [one client](CLIENT_ID), and speaks every
/// [`Dialect`] at the same time.
///
/// A request counts when it arrives, waits while it is [held](Self::hold) and for the
/// [delay](Self::set_delay), and then fails or is judged. So what you set while a request is held
/// applies to it.
///
/// # Users
///
/// [`Dialect::Rfc6749`] exchanges any user's token: by token exchange (RFC 8693 §2.1), as a JWT
/// bearer assertion (RFC 7523 §2.1) and in Microsoft Entra's on-behalf-of flow. It does not read
/// that token: a text such as `of-ann` will do. Each exchange issues its own access token, and the
/// API [says](super::ProtectedApi) for whom. [`fail_subject`](Self::fail_subject) affects one user.
///
/// ```
/// # #[cfg(all(feature = "keyed", feature = "reqwest"))]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_bearer::BoxError> {
/// # use http::{HeaderMap, Request};
/// # use tower::{Layer, ServiceExt};
/// # use tower_bearer::{
/// #     BearerAuthLayer, BoxError, KeyedTokenCache, Subject, TokenKey,
/// #     oauth2::{EndpointError, ReqwestService, TokenExchange},
/// #     testing::{Failure, World},
/// # };
/// let world = World::start().await?;
/// let endpoint = world.tokens().endpoint().token_exchange(TokenExchange::new()).build()?;
/// let tokens = KeyedTokenCache::builder(endpoint).build()?;
/// let layer = BearerAuthLayer::from_cache(&tokens).origin(world.api().origin())?;
/// let stack = layer.require_subject().layer(ReqwestService::default());
///
/// /// A call for the user whose token your service received.
/// fn call_for(user: &str, url: String) -> Result<Request<String>, BoxError> {
///     let mut incoming = HeaderMap::new();
///     incoming.insert("authorization", format!("Bearer {user}").parse()?);
///     let key = TokenKey::new().on_behalf_of(Subject::from_headers(&incoming)?);
///     Ok(Request::get(url).extension(key).body(String::new())?)
/// }
///
/// let response = stack.clone().oneshot(call_for("of-ann", world.api().url("/"))?).await?;
/// assert_eq!(response.headers()["echo-subject"], "of-ann");
///
/// world.tokens().fail_subject("of-bob", Failure::OAuth("invalid_grant"));
/// let error = stack.oneshot(call_for("of-bob", world.api().url("/"))?).await.unwrap_err();
/// assert_eq!(EndpointError::find_in(&*error).unwrap().error(), Some("invalid_grant"));
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "keyed", feature = "reqwest")))]
/// # fn main() {}
/// ```
#[derive(Debug)]
pub struct TokenService {
    desk: Arc<Desk>,
    server: Server,
}

/// Answers the requests.
#[derive(Debug)]
struct Desk {
    issued: Arc<IssuedTokens>,
    script: Script,
    fetches: Counter,
    gate: Gate,
}

// ===== impl TokenService =====

impl TokenService {
    pub(super) async fn start(issued: Arc<IssuedTokens>) -> io::Result<Self> {
        let desk = Desk {
            issued,
            script: Script::default(),
            fetches: Counter::default(),
            gate: Gate::default(),
        };
        let desk = Arc::new(desk);
        Ok(Self { server: Server::start(desk.clone()).await?, desk })
    }

    /// A builder with this service's URL and its client's credentials, for the grant of RFC 6749
    /// §4.4. Without feature `reqwest` it still needs a
    /// [transport](TokenEndpointBuilder::transport).
    pub fn endpoint(&self) -> TokenEndpointBuilder {
        self.endpoint_of(Dialect::Rfc6749)
    }

    /// A builder for this dialect, as in [`providers`].
    pub fn endpoint_of(&self, dialect: Dialect) -> TokenEndpointBuilder {
        let url = self.url(dialect);
        let secret = self.desk.script.orders().secret.clone();
        match dialect {
            Dialect::Rfc6749 => {
                TokenEndpoint::builder(url).client_id(CLIENT_ID).client_secret(secret)
            }
            Dialect::GreenNode => providers::greennode(CLIENT_ID, secret).url(url),
            Dialect::Ianum => providers::ianum(CLIENT_ID, secret).url(url),
            Dialect::IbmCloud => providers::ibm_cloud(secret).url(url),
            Dialect::IbmVerify => providers::ibm_verify("localhost", CLIENT_ID, secret).url(url),
        }
    }

    /// The URL of this dialect, for a stack that reads its settings from elsewhere.
    #[must_use]
    pub fn url(&self, dialect: Dialect) -> String {
        format!("{}{}", self.server.origin(), dialect.path())
    }

    /// How many token requests have arrived. Each attempt counts, whatever its outcome.
    #[must_use]
    pub fn fetches(&self) -> u64 {
        self.desk.fetches.get()
    }

    /// Waits until this many requests have arrived.
    pub async fn until_fetches(&self, count: u64) {
        self.desk.fetches.reaches(count).await;
    }

    /// How many access tokens have been issued. The last one is `t-` followed by this number.
    #[must_use]
    pub fn issued(&self) -> u64 {
        self.desk.issued.count()
    }

    /// Makes requests wait on arrival until the [`Held`] is released.
    pub fn hold(&self) -> Held {
        self.desk.gate.hold()
    }

    /// Sets how long each request waits before it is answered. Default: not at all.
    pub fn set_delay(&self, delay: Duration) {
        self.desk.script.orders().delay = delay;
    }

    /// Sets the lifetime of tokens that are issued from now on, in seconds. With `None`, answers
    /// have no lifetime, and tokens live until they are revoked. Default: 3600.
    pub fn set_expires_in(&self, seconds: impl Into<Option<u64>>) {
        self.desk.script.orders().expires_in = seconds.into();
    }

    /// Rotates the client's secret, which is also its API key: from now on the service accepts only
    /// this one. Default: [`CLIENT_SECRET`](super::CLIENT_SECRET).
    pub fn set_secret(&self, secret: impl Into<String>) {
        self.desk.script.orders().secret = secret.into();
    }

    /// Issues the first refresh token of a login, for
    /// [`endpoint`](Self::endpoint)`().refresh_token(..)`.
    ///
    /// Each exchange replaces it. If one is used again, the service refuses it and ends the whole
    /// login, as RFC 9700 §4.14.2 asks for.
    #[must_use]
    pub fn log_in(&self) -> String {
        self.desk.issued.log_in()
    }

    /// Makes this many of the next requests fail. Failures from earlier calls come first.
    pub fn fail_next(&self, times: u64, failure: Failure) {
        self.desk.script.orders().fail(Some(times), failure);
    }

    /// Makes every request fail until the [recovery](Self::recover). Failures from earlier calls
    /// come first.
    pub fn fail(&self, failure: Failure) {
        self.desk.script.orders().fail(None, failure);
    }

    /// Makes every request for this user's token fail until the [recovery](Self::recover), for
    /// instance with [`Failure::OAuth`]`("invalid_grant")` for a login that has ended. A second
    /// call for the same user replaces the failure. Failures of all requests come first.
    pub fn fail_subject(&self, subject_token: impl Into<String>, failure: Failure) {
        self.desk.script.orders().fail_subject(subject_token.into(), failure);
    }

    /// Ends every failure, those of users too.
    pub fn recover(&self) {
        self.desk.script.orders().recover();
    }
}

// ===== impl Desk =====

impl Handler for Desk {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Cut> {
        let Some(dialect) = Dialect::at(request.uri().path()) else {
            return Ok(early(StatusCode::NOT_FOUND, request.into_body()));
        };
        self.fetches.increment();
        let (head, mut body) = request.into_parts();
        let Ok(read) = Limited::new(&mut body, MAX_BODY).collect().await else {
            return Ok(early(StatusCode::PAYLOAD_TOO_LARGE, body));
        };
        let request = Request::from_parts(head, read.to_bytes());

        self.gate.pass().await;
        let delay = self.script.orders().delay;
        tokio::time::sleep(delay).await;
        let (failure, grant) = {
            let mut orders = self.script.orders();
            let grant = dialect.read(&request, &orders.secret);
            let failure = orders.next_failure().or_else(|| match &grant {
                Ok(Grant::Subject { token, .. }) => orders.subject_failure(token),
                _ => None,
            });
            (failure, grant)
        };
        match failure {
            None => Ok(whole(self.judge(dialect, grant))),
            Some(Failure::AnswerLost) => Ok(failure::lost(self.judge(dialect, grant))),
            Some(failure) => failure.answer(dialect).map(whole),
        }
    }
}

impl Desk {
    fn judge(&self, dialect: Dialect, grant: Result<Grant, Refusal>) -> Response<Bytes> {
        match grant.and_then(|grant| self.issue(grant)) {
            Ok(issued) => dialect.grants(&issued),
            Err(refusal) => dialect.refuses(&refusal),
        }
    }

    fn issue(&self, grant: Grant) -> Result<Issued, Refusal> {
        let (refresh_token, subject, scope, exchanged_type) = match grant {
            Grant::Client { scope } => (None, None, scope, None),
            Grant::RefreshToken(token) => {
                let next = self.issued.rotate(&token);
                let next = next.ok_or(Refusal::grant("the refresh token is not valid"))?;
                (Some(next), None, None, None)
            }
            Grant::Subject { token, scope, exchanged_type } => {
                (None, Some(token), scope, exchanged_type)
            }
        };
        let expires_in = self.script.orders().expires_in;
        let access_token = self.issued.issue(expires_in, subject);
        Ok(Issued { access_token, expires_in, refresh_token, scope, exchanged_type })
    }
}

fn whole(answer: Response<Bytes>) -> Answer {
    boxed(answer.map(Full::new))
}
