//! Makes calls, all at once or at a steady rate, and records the outcome of each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::poll;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use tokio::{pin, select, task::JoinSet, time::interval};
use tower::{Service, ServiceExt};
use tower_bearer::BoxError;

use crate::{report::explain, stack::Stack};

/// Makes calls with one stack.
pub(crate) struct Load {
    stack: Stack,
    uri: Uri,
    /// The prefix of the bodies, if the API echoes them; without it the calls are `GET`s.
    echo: Option<&'static str>,
    calls: AtomicU64,
}

/// Calls in flight.
pub(crate) struct Calls {
    tasks: JoinSet<Outcome>,
}

/// The outcome of one call.
pub(crate) struct Outcome {
    pub(crate) start: Instant,
    /// From the call of the stack to the last byte of the response.
    pub(crate) latency: Duration,
    /// Whether the stack did not send it at once, because there was no token.
    pub(crate) waited: bool,
    /// How often the stack sent it.
    pub(crate) sends: u64,
    pub(crate) failure: Option<String>,
}

/// A request extension that counts how often the request reaches the client.
#[derive(Clone, Default)]
struct Sends(Arc<AtomicU64>);

/// Counts a send. It sits between the layer and the client.
pub(crate) fn count_send<B>(request: Request<B>) -> Request<B> {
    if let Some(Sends(sends)) = request.extensions().get() {
        sends.fetch_add(1, Ordering::Relaxed);
    }
    request
}

impl Sends {
    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

// ===== impl Load =====

impl Load {
    /// Calls to an API that echoes their bodies.
    pub(crate) fn echo(stack: Stack, uri: Uri, name: &'static str) -> Self {
        Self { stack, uri, echo: Some(name), calls: AtomicU64::new(0) }
    }

    /// `GET` calls.
    pub(crate) fn get(stack: Stack, uri: Uri) -> Self {
        Self { stack, uri, echo: None, calls: AtomicU64::new(0) }
    }

    /// The number of calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Makes `count` calls, and returns once the stack has them all.
    pub(crate) async fn at_once(&self, count: u64) -> Result<Calls, BoxError> {
        let mut calls = Calls { tasks: JoinSet::new() };
        for _ in 0..count {
            self.call(&mut calls).await?;
        }
        Ok(calls)
    }

    /// Makes a call at each tick until `end`, without waiting for earlier calls.
    pub(crate) async fn steadily(
        &self,
        every: Duration,
        end: impl Future,
    ) -> Result<Vec<Outcome>, BoxError> {
        let mut calls = Calls { tasks: JoinSet::new() };
        let mut ticks = interval(every);
        pin!(end);
        loop {
            select! {
                _ = &mut end => break,
                _ = ticks.tick() => self.call(&mut calls).await?,
            }
        }
        Ok(calls.outcomes().await)
    }

    async fn call(&self, calls: &mut Calls) -> Result<(), BoxError> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let body = self.echo.map(|name| Bytes::from(format!("{name}, call {number}")));
        let sends = Sends::default();
        let request = self.request(body.clone(), sends.clone())?;
        let mut stack = self.stack.clone();
        stack.ready().await?;
        let start = Instant::now();
        let mut response = stack.call(request);
        // If there is a usable token, the call has been sent after this poll.
        let first = poll!(&mut response);
        let waited = sends.count() == 0;
        calls.tasks.spawn(async move {
            let response = match first {
                Poll::Ready(response) => response,
                Poll::Pending => response.await,
            };
            let failure = verdict(response, body).await.err().map(|error| explain(&error));
            Outcome { start, latency: start.elapsed(), waited, sends: sends.count(), failure }
        });
        Ok(())
    }

    fn request(&self, body: Option<Bytes>, sends: Sends) -> http::Result<Request<Full<Bytes>>> {
        let method = if body.is_some() { "POST" } else { "GET" };
        let request = Request::builder().method(method).uri(self.uri.clone()).extension(sends);
        request.body(Full::new(body.unwrap_or_default()))
    }
}

/// Returns an error if the call failed.
async fn verdict(
    response: Result<Response<Body>, BoxError>,
    sent: Option<Bytes>,
) -> Result<(), BoxError> {
    let response = response?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        return Err(format!("the API answered {status}").into());
    }
    match sent {
        Some(sent) if sent != body => Err("the API did not get the body that was sent".into()),
        _ => Ok(()),
    }
}

// ===== impl Calls =====

impl Calls {
    /// Waits until all of them have ended.
    pub(crate) async fn outcomes(self) -> Vec<Outcome> {
        self.tasks.join_all().await
    }
}
