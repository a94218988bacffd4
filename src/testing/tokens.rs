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

/// A token service that does as it is told. It knows [one client](CLIENT_ID), and speaks every
/// [`Dialect`] at the same time.
///
/// A request is counted when it arrives, waits while it is [held](Self::hold) and for the
/// [delay](Self::set_delay), and then fails or is judged. So what is set while it is held
/// counts for it.
///
/// # Users
///
/// [`Dialect::Rfc6749`] exchanges any user's token, by token exchange (RFC 8693 §2.1), as a JWT
/// bearer assertion (RFC 7523 §2.1) and on behalf of, as Microsoft Entra has it. It does not look
/// into that token: a text such as `of-ann` will do. Each exchange issues an access token of its
/// own, and the API [says](super::ProtectedApi) for whom. [`fail_subject`](Self::fail_subject) is
/// about one user.
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
/// /// A call for the user whose token your service was sent.
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

/// What answers the requests.
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

    /// A builder that has this service's URL and its client's credentials, and asks as RFC
    /// 6749 §4.4 has it. Without feature `reqwest` it still needs a
    /// [transport](TokenEndpointBuilder::transport).
    pub fn endpoint(&self) -> TokenEndpointBuilder {
        self.endpoint_of(Dialect::Rfc6749)
    }

    /// The same in that dialect, as [`providers`] has it.
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

    /// Where that dialect is spoken, for a stack that reads its settings from somewhere.
    #[must_use]
    pub fn url(&self, dialect: Dialect) -> String {
        format!("{}{}", self.server.origin(), dialect.path())
    }

    /// How many requests for a token have arrived: each attempt counts, whatever came of it.
    #[must_use]
    pub fn fetches(&self) -> u64 {
        self.desk.fetches.get()
    }

    /// Waits until that many requests have arrived.
    pub async fn until_fetches(&self, count: u64) {
        self.desk.fetches.reaches(count).await;
    }

    /// How many access tokens have been issued. The last one is `t-` and this number.
    #[must_use]
    pub fn issued(&self) -> u64 {
        self.desk.issued.count()
    }

    /// Lets requests arrive and wait until the [`Held`] is released.
    pub fn hold(&self) -> Held {
        self.desk.gate.hold()
    }

    /// How long each request waits before it is answered. Default: not at all.
    pub fn set_delay(&self, delay: Duration) {
        self.desk.script.orders().delay = delay;
    }

    /// The lifetime of tokens that are issued from now on, in seconds. With `None` answers do
    /// not say, and tokens live until they are revoked. Default: 3600.
    pub fn set_expires_in(&self, seconds: impl Into<Option<u64>>) {
        self.desk.script.orders().expires_in = seconds.into();
    }

    /// Rotates the client's secret, which is its API key too: from now on only this one is
    /// taken. Default: [`CLIENT_SECRET`](super::CLIENT_SECRET).
    pub fn set_secret(&self, secret: impl Into<String>) {
        self.desk.script.orders().secret = secret.into();
    }

    /// Issues the first refresh token of a login, for
    /// [`endpoint`](Self::endpoint)`().refresh_token(..)`.
    ///
    /// Each exchange replaces it. One that is used again is refused, and takes the whole login
    /// with it, as RFC 9700 §4.14.2 asks for.
    #[must_use]
    pub fn log_in(&self) -> String {
        self.desk.issued.log_in()
    }

    /// Makes the next requests fail, that many of them. Failures that were asked for before come
    /// first.
    pub fn fail_next(&self, times: u64, failure: Failure) {
        self.desk.script.orders().fail(Some(times), failure);
    }

    /// Makes every request fail until the [recovery](Self::recover), once the failures that were
    /// asked for before are over.
    pub fn fail(&self, failure: Failure) {
        self.desk.script.orders().fail(None, failure);
    }

    /// Makes every request for that user's token fail until the [recovery](Self::recover):
    /// [`Failure::OAuth`]`("invalid_grant")` for a login that has ended, say. Another failure takes
    /// the place of this one. The failures of all requests come first.
    pub fn fail_subject(&self, subject_token: impl Into<String>, failure: Failure) {
        self.desk.script.orders().fail_subject(subject_token.into(), failure);
    }

    /// Forgets every failure that was asked for, also those of users.
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
                let next = next.ok_or(Refusal::grant("the refresh token is not good"))?;
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
