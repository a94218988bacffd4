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
    pub fn issued(&self) -> usize {
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

    /// Forgets every failure that was asked for.
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
        let failure = self.script.orders().next_failure();
        match failure {
            None => Ok(whole(self.judge(dialect, &request))),
            Some(Failure::AnswerLost) => Ok(failure::lost(self.judge(dialect, &request))),
            Some(failure) => failure.answer(dialect).map(whole),
        }
    }
}

impl Desk {
    fn judge(&self, dialect: Dialect, request: &Request<Bytes>) -> Response<Bytes> {
        match self.issue(dialect, request) {
            Ok(issued) => dialect.grants(&issued),
            Err(refusal) => dialect.refuses(&refusal),
        }
    }

    fn issue(&self, dialect: Dialect, request: &Request<Bytes>) -> Result<Issued, Refusal> {
        let orders = self.script.orders();
        let (refresh_token, scope) = match dialect.read(request, &orders.secret)? {
            Grant::Client { scope } => (None, scope),
            Grant::RefreshToken(token) => {
                let next = self.issued.rotate(&token);
                (Some(next.ok_or(Refusal::grant("the refresh token is not good"))?), None)
            }
        };
        let expires_in = orders.expires_in;
        let access_token = self.issued.issue(expires_in);
        Ok(Issued { access_token, expires_in, refresh_token, scope })
    }
}

fn whole(answer: Response<Bytes>) -> Answer {
    boxed(answer.map(Full::new))
}
