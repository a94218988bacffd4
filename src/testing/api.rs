//! The protected API.

use std::{io, sync::Arc};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use hyper::body::Incoming;

use super::{
    Held,
    counter::Counter,
    gate::Gate,
    issued_tokens::IssuedTokens,
    server::{Answer, Cut, Handler, Server, boxed, early},
};

const ECHO_METHOD: HeaderName = HeaderName::from_static("echo-method");
const ECHO_PATH: HeaderName = HeaderName::from_static("echo-path");
const ECHO_SUBJECT: HeaderName = HeaderName::from_static("echo-subject");
const ECHO_TOKEN: HeaderName = HeaderName::from_static("echo-token");

/// An API that accepts the tokens of the [`TokenService`](super::TokenService) beside it, on any
/// path and with any method.
///
/// It answers a call with a valid token with status 200 and with what the call brought: the headers
/// `echo-method`, `echo-path` (with the query) and `echo-token`, the call's content type, and its
/// body while it streams. If the token was issued for a user's token, `echo-subject` has that one.
/// It rejects any other call before it reads the body, as RFC 6750 §3 says:
///
/// | the call brings | status | `error` |
/// | --- | --- | --- |
/// | no bearer token | 401 | |
/// | an unknown, expired or revoked token | 401 | `invalid_token` |
/// | `Authorization` more than once | 400 | `invalid_request` |
///
/// A call counts when it arrives, waits while it is [held](Self::hold), and is then judged: the API
/// rejects a token that was revoked meanwhile.
#[derive(Debug)]
pub struct ProtectedApi {
    guard: Arc<Guard>,
    server: Server,
}

/// Answers the calls.
#[derive(Debug)]
struct Guard {
    issued: Arc<IssuedTokens>,
    gate: Gate,
    calls: Counter,
    accepted: Counter,
    rejected: Counter,
}

/// Why a call is rejected.
enum Rejected {
    Bare,
    InvalidToken(&'static str),
    InvalidRequest(&'static str),
}

// ===== impl ProtectedApi =====

impl ProtectedApi {
    pub(super) async fn start(issued: Arc<IssuedTokens>) -> io::Result<Self> {
        let guard = Guard {
            issued,
            gate: Gate::default(),
            calls: Counter::default(),
            accepted: Counter::default(),
            rejected: Counter::default(),
        };
        let guard = Arc::new(guard);
        Ok(Self { server: Server::start(guard.clone()).await?, guard })
    }

    /// The API's scheme, host and port, for
    /// [`BearerAuthLayer::origin`](crate::BearerAuthLayer::origin).
    #[must_use]
    pub fn origin(&self) -> String {
        self.server.origin()
    }

    /// The URL of a path. The path starts with `/`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.origin())
    }

    /// How many calls have arrived.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.guard.calls.get()
    }

    /// Waits until this many calls have arrived.
    pub async fn until_calls(&self, count: u64) {
        self.guard.calls.reaches(count).await;
    }

    /// How many calls had a valid token.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.guard.accepted.get()
    }

    /// How many calls had no valid token.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.guard.rejected.get()
    }

    /// Makes calls wait on arrival until the [`Held`] is released.
    pub fn hold(&self) -> Held {
        self.guard.gate.hold()
    }
}

// ===== impl Guard =====

impl Handler for Guard {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Cut> {
        self.calls.increment();
        self.gate.pass().await;
        Ok(match self.judge(request.headers()) {
            Ok(token) => {
                let token = token.to_owned();
                self.accepted.increment();
                echo(&token, self.issued.subject_of(&token).as_deref(), request)
            }
            Err(rejected) => {
                self.rejected.increment();
                rejected.answer(request.into_body())
            }
        })
    }
}

impl Guard {
    /// The token of a call, if it is valid.
    fn judge<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str, Rejected> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(Rejected::Bare)?;
        if values.next().is_some() {
            return Err(Rejected::InvalidRequest("more than one Authorization"));
        }
        let token = value.to_str().ok().and_then(bearer_token).ok_or(Rejected::Bare)?;
        self.issued.check(token).map_err(Rejected::InvalidToken)?;
        Ok(token)
    }
}

fn bearer_token(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}

fn echo(token: &str, subject: Option<&str>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let mut response = Response::new(body);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let echoes = [(ECHO_METHOD, head.method.as_str()), (ECHO_PATH, path), (ECHO_TOKEN, token)];
    for (name, text) in echoes.into_iter().chain(subject.map(|subject| (ECHO_SUBJECT, subject))) {
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            response.headers_mut().insert(name, value);
        }
    }
    if let Some(content_type) = head.headers.get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, content_type.clone());
    }
    boxed(response)
}

// ===== impl Rejected =====

impl Rejected {
    fn answer(&self, unread: Incoming) -> Answer {
        let status = match self {
            Self::Bare | Self::InvalidToken(_) => StatusCode::UNAUTHORIZED,
            Self::InvalidRequest(_) => StatusCode::BAD_REQUEST,
        };
        let mut response = early(status, unread);
        if let Ok(challenge) = HeaderValue::try_from(self.challenge()) {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }

    fn challenge(&self) -> String {
        let (error, description) = match self {
            Self::Bare => return r#"Bearer realm="testing""#.to_owned(),
            Self::InvalidToken(description) => ("invalid_token", description),
            Self::InvalidRequest(description) => ("invalid_request", description),
        };
        format!(r#"Bearer realm="testing", error="{error}", error_description="{description}""#)
    }
}
