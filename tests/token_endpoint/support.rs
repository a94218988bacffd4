//! A transport that records what it is sent and answers as it was told.

use std::{
    cell::RefCell,
    collections::VecDeque,
    convert::Infallible,
    future,
    pin::Pin,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tower::Service;
use tower_bearer::{
    AccessToken, BoxError, Reason, TokenError, TokenRequest,
    oauth2::{EndpointError, EndpointErrorKind, TokenEndpoint, TokenEndpointBuilder},
};
#[cfg(feature = "keyed")]
use tower_bearer::{Subject, TokenKey};

pub(crate) const URL: &str = "https://auth.example.com/token";
pub(crate) const OK: &str = r#"{"access_token":"at-1","token_type":"Bearer","expires_in":3600}"#;

type Body = UnsyncBoxBody<Bytes, BoxError>;
type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

/// What the service does with a request.
pub(crate) enum Step {
    Answer(Response<Body>),
    Fail(BoxError),
    Hang,
    /// Answers after so long: with paused time.
    Slow(Duration, Response<Body>),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    /// The value of a header; the empty text if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The names of all headers, sorted.
    pub(crate) fn header_names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.headers.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// Answers with one step after the other; a request too many is a failure of the test.
#[derive(Clone, Default)]
pub(crate) struct Scripted {
    steps: Arc<Mutex<VecDeque<Step>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// A request under way, until it is answered or dropped.
struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Scripted {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        let scripted = Self::default();
        scripted.steps.lock().unwrap().extend(steps);
        scripted
    }

    /// What was sent.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The most requests that were under way at one time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// The bodies that were sent.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.body).collect()
    }
}

impl Service<Request<Full<Bytes>>> for Scripted {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Answering {
        let this = self.clone();
        Box::pin(async move {
            let now = this.under_way.fetch_add(1, Ordering::Relaxed) + 1;
            this.most.fetch_max(now, Ordering::Relaxed);
            let _under_way = UnderWay(Arc::clone(&this.under_way));
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            this.seen.lock().unwrap().push(Seen {
                method: head.method,
                uri: head.uri,
                headers: head.headers,
                body: String::from_utf8(body.into()).unwrap(),
            });
            let step = this.steps.lock().unwrap().pop_front();
            match step.expect("no more requests than the test has answers for") {
                Step::Answer(response) => Ok(response),
                Step::Fail(error) => Err(error),
                Step::Hang => future::pending().await,
                Step::Slow(time, response) => {
                    tokio::time::sleep(time).await;
                    Ok(response)
                }
            }
        })
    }
}

pub(crate) fn answer(status: u16, body: impl Into<Bytes>) -> Step {
    answer_with(status, &[], body)
}

pub(crate) fn answer_with(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Step {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let body = Full::new(body.into()).map_err(|never: Infallible| match never {});
    Step::Answer(response.body(body.boxed_unsync()).unwrap())
}

/// An answer whose body comes in pieces, `None` being where it breaks.
pub(crate) fn streamed(status: u16, pieces: Vec<Option<Bytes>>) -> Step {
    let frame = |piece: Option<Bytes>| {
        piece.map(Frame::data).ok_or_else(|| BoxError::from("the connection was cut"))
    };
    let body = StreamBody::new(stream::iter(pieces.into_iter().map(frame)));
    Step::Answer(Response::builder().status(status).body(body.boxed_unsync()).unwrap())
}

pub(crate) fn cut() -> Step {
    Step::Fail("the connection was cut".into())
}

pub(crate) fn refused() -> Step {
    Step::Fail(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into())
}

/// A client with credentials that are easily found again.
pub(crate) fn client() -> TokenEndpointBuilder {
    TokenEndpoint::builder(URL).client_id("my-app").client_secret("hush-hush")
}

pub(crate) fn first() -> TokenRequest {
    TokenRequest::new(Reason::First)
}

/// A request for that key.
#[cfg(feature = "keyed")]
pub(crate) fn request_for(key: &TokenKey) -> TokenRequest {
    first().with_key(key.clone())
}

#[cfg(feature = "keyed")]
pub(crate) fn subject(token: &str) -> Subject {
    Subject::new(AccessToken::new(token).unwrap())
}

/// Fetches for that key once, with one answer: what was sent, and what came of it.
#[cfg(feature = "keyed")]
pub(crate) async fn fetch_for(
    key: &TokenKey,
    builder: TokenEndpointBuilder,
    step: Step,
) -> (Vec<Seen>, Result<AccessToken, TokenError>) {
    let service = Scripted::new([step]);
    let endpoint = builder.transport(service.clone()).build().unwrap();
    let outcome = endpoint.fetch(request_for(key)).await;
    (service.seen(), outcome)
}

/// The body of the request for that key.
#[cfg(feature = "keyed")]
pub(crate) async fn body_for(key: &TokenKey, builder: TokenEndpointBuilder) -> String {
    let (mut seen, outcome) = fetch_for(key, builder, answer(200, OK)).await;
    outcome.unwrap();
    seen.remove(0).body
}

/// The error for that key, for which nothing is sent.
#[cfg(feature = "keyed")]
pub(crate) async fn unsent_for(key: &TokenKey, builder: TokenEndpointBuilder) -> TokenError {
    let (seen, outcome) = fetch_for(key, builder, answer(200, OK)).await;
    assert!(seen.is_empty(), "{seen:?}");
    let error = outcome.unwrap_err();
    assert!(!error.is_transient() && error.concerns_key_only(), "{error:?}");
    error
}

pub(crate) async fn fetch(endpoint: &TokenEndpoint) -> Result<AccessToken, TokenError> {
    endpoint.fetch(first()).await
}

/// Fetches once, with one answer.
pub(crate) async fn fetch_with(
    builder: TokenEndpointBuilder,
    step: Step,
) -> Result<AccessToken, TokenError> {
    fetch(&builder.transport(Scripted::new([step])).build().unwrap()).await
}

/// Sends one request with the settings of the builder, and returns it.
pub(crate) async fn sent(builder: TokenEndpointBuilder) -> Seen {
    let service = Scripted::new([answer(200, OK)]);
    fetch(&builder.transport(service.clone()).build().unwrap()).await.unwrap();
    service.seen().remove(0)
}

pub(crate) fn cause(error: &TokenError) -> &EndpointError {
    error.downcast_ref().expect("every error of an endpoint has an `EndpointError` in it")
}

pub(crate) fn kind(error: &TokenError) -> &EndpointErrorKind {
    cause(error).kind()
}

/// Everything that a log could show of an error.
pub(crate) fn shown(error: &TokenError) -> String {
    let mut shown = format!("{error} {error:?} {error:#?}");
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        shown = format!("{shown} {source} {source:?}");
        next = source.source();
    }
    shown
}

// ===== The log =====

thread_local! {
    static LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// All warnings that this thread logs while it is there.
pub(crate) struct Log;

impl Log {
    pub(crate) fn start() -> Self {
        // One subscriber for all threads: with one for each, what a callsite is cached to be
        // interested in depends on which thread came by first.
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::INFO)
                .with_ansi(false)
                .with_writer(|| ThreadLines)
                .init();
        });
        LINES.set(Some(Vec::new()));
        Self
    }

    /// What this thread has logged so far.
    pub(crate) fn lines() -> Vec<String> {
        let text = LINES.with_borrow(|lines| String::from_utf8(lines.clone().unwrap()).unwrap());
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        LINES.set(None);
    }
}

struct ThreadLines;

impl std::io::Write for ThreadLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.iter_mut().for_each(|lines| lines.extend(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
