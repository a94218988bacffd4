//! The tests' token service in memory: a transport that follows a script, and remembers what it was
//! sent.
#![allow(dead_code, reason = "no test needs all of it")]

use std::{
    collections::VecDeque,
    convert::Infallible,
    future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tower::Service;
use tower_bearer::BoxError;

pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;
type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

/// What the service does with a request.
pub(crate) enum Step {
    Answer(Response<Body>),
    Fail(BoxError),
    Hang,
    /// Does that step after this time. Use it with paused time.
    Slow(Duration, Box<Step>),
}

impl Step {
    async fn outcome(self) -> Result<Response<Body>, BoxError> {
        match self {
            Self::Answer(response) => Ok(response),
            Self::Fail(error) => Err(error),
            Self::Hang => future::pending().await,
            Self::Slow(time, step) => {
                tokio::time::sleep(time).await;
                Box::pin(step.outcome()).await
            }
        }
    }
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

/// What it does with one request after the other.
type Script = Box<dyn FnMut(&Seen) -> Step + Send>;

/// A handle; every clone is the same service.
#[derive(Clone)]
pub(crate) struct Scripted {
    script: Arc<Mutex<Script>>,
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

impl Default for Scripted {
    /// Any request fails the test.
    fn default() -> Self {
        Self::new([])
    }
}

impl Scripted {
    /// Does one step for each request. A further request fails the test.
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        let mut steps: VecDeque<_> = steps.into_iter().collect();
        Self::always(move |_| {
            steps.pop_front().expect("no more requests than the test has answers for")
        })
    }

    /// Does that with each request.
    pub(crate) fn always(step: impl FnMut(&Seen) -> Step + Send + 'static) -> Self {
        let script: Script = Box::new(step);
        Self {
            script: Arc::new(Mutex::new(script)),
            seen: Arc::default(),
            under_way: Arc::default(),
            most: Arc::default(),
        }
    }

    /// Hands out `t1`, `t2`, …, which live for an hour.
    pub(crate) fn issuing() -> Self {
        let mut nth = 0;
        Self::always(move |_| {
            nth += 1;
            answer(200, format!(r#"{{"access_token":"t{nth}","expires_in":3600}}"#))
        })
    }

    /// Refuses each request with that error.
    pub(crate) fn refusing(status: u16, error: &str) -> Self {
        let body = format!(r#"{{"error":"{error}"}}"#);
        Self::always(move |_| answer(status, body.clone()))
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
            let seen = Seen {
                method: head.method,
                uri: head.uri,
                headers: head.headers,
                body: String::from_utf8(body.into()).unwrap(),
            };
            let step = (this.script.lock().unwrap())(&seen);
            this.seen.lock().unwrap().push(seen);
            step.outcome().await
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

/// That step, after this time.
pub(crate) fn slow(time: Duration, step: Step) -> Step {
    Step::Slow(time, Box::new(step))
}
