//! Forwards one request to its upstream, and the response back to the client.

use std::{
    error::Error,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::{Body, HttpBody};
use http::{
    HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use tower_bearer::{BoxError, TokenError, TokenKey};

use crate::{
    answer::{Refusal, answer},
    budget::Budget,
    challenge,
    config::Replay,
    connection::RequestBody,
    connector::Connector,
    error::explain,
    headers,
    held::Kept,
    replay,
    upstream::Upstream,
};

/// The challenge for a client that sends no user's token.
const CHALLENGE: &str = "Bearer";

pub(crate) struct Forwarder {
    client: Client<Connector, Body>,
    replay: Replay,
    budget: Budget,
    /// Whether to forward without tokens, to measure what they cost.
    bare: bool,
}

impl Forwarder {
    /// `connect` limits the time for connecting. Nothing limits the time for a response: that is up
    /// to the client.
    pub(crate) fn new(replay: Replay, connect: Duration, bare: bool) -> io::Result<Self> {
        let connector = Connector::new(connect)?;
        let mut client = Client::builder(TokioExecutor::new());
        let client = client.pool_timer(TokioTimer::new()).build(connector);
        Ok(Self { client, replay, budget: Budget::new(replay.total), bare })
    }

    /// The number of bytes that are reserved for replays at the moment.
    pub(crate) fn kept(&self) -> usize {
        (self.replay.total as usize).saturating_sub(self.budget.free())
    }

    /// Forwards to the first upstream that accepts the path.
    pub(crate) async fn forward(
        &self,
        upstreams: &[Arc<Upstream>],
        request: Request<RequestBody>,
    ) -> Response<Body> {
        let started = Instant::now();
        let accepts = |upstream: &Arc<Upstream>| {
            upstream.target(request.uri()).map(|target| (Arc::clone(upstream), target))
        };
        let Some((upstream, target)) = upstreams.iter().find_map(accepts) else {
            return Refusal(StatusCode::NOT_FOUND, "no upstream has this path").into();
        };
        let response = match upstream.key(request.headers()) {
            Ok(key) => self.forward_to(&upstream, outbound(request, target, &upstream), key).await,
            Err(why) => {
                unauthorized(CHALLENGE, &format!("`{}` acts for users: {why}", upstream.name))
            }
        };
        let labels = [
            ("upstream", upstream.name.clone()),
            ("status", response.status().as_str().to_owned()),
        ];
        metrics::counter!("sidecar_requests_total", &labels).increment(1);
        metrics::histogram!("sidecar_response_seconds", "upstream" => upstream.name.clone())
            .record(started.elapsed());
        response
    }

    /// Forwards with the token of `key`, if the upstream acts on behalf of users.
    async fn forward_to(
        &self,
        upstream: &Upstream,
        mut request: Request<RequestBody>,
        key: Option<TokenKey>,
    ) -> Response<Body> {
        if let Some(key) = &key {
            request.extensions_mut().insert(key.clone());
        }
        match self.send(upstream, request).await {
            Ok(response) if headers::has_unknown_coding(response.headers()) => {
                broken(upstream, "its response has an unsupported transfer coding")
            }
            Ok(mut response) => {
                headers::remove_hop_by_hop(response.headers_mut());
                *response.version_mut() = Version::default();
                response.map(Body::new)
            }
            Err(error) => failed(upstream, key.as_ref(), &*error),
        }
    }

    /// Sends the request, and keeps its body for a replay if the budget has room.
    async fn send(
        &self,
        upstream: &Upstream,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, BoxError> {
        if self.bare {
            return Ok(self.client.request(request.map(Body::new)).await?);
        }
        let kept = self.keep(request.body());
        if kept.is_none() {
            metrics::counter!("sidecar_unkept_total", "upstream" => upstream.name.clone())
                .increment(1);
        }
        replay::send(upstream.stack(&self.client), request, kept).await
    }

    /// Reserves memory for a body; `None` if the body is too large or the budget has no room.
    fn keep(&self, body: &impl HttpBody) -> Option<Kept> {
        let limit = self.limit(body)?;
        let reservation = self.budget.reserve(limit)?;
        Some(Kept::new(limit as usize, reservation))
    }

    /// How many bytes of a body a replay may need; `None` if the body is too large.
    fn limit(&self, body: &impl HttpBody) -> Option<u32> {
        let hint = body.size_hint();
        let most = hint.upper().unwrap_or(u64::MAX).min(self.replay.per_request.into());
        if hint.lower() > most { None } else { u32::try_from(most).ok() }
    }
}

fn outbound(
    request: Request<RequestBody>,
    target: Uri,
    upstream: &Upstream,
) -> Request<RequestBody> {
    let (mut parts, body) = request.into_parts();
    headers::prepare_for_upstream(&mut parts.headers, upstream.header.name());
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        headers::announce_chunks(&mut parts.headers);
    }
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = target;
    *request.headers_mut() = parts.headers;
    request
}

fn failed(
    upstream: &Upstream,
    key: Option<&TokenKey>,
    error: &(dyn Error + 'static),
) -> Response<Body> {
    let text = || format!("no access token for `{}`: {}", upstream.name, explain(error));
    if let Some(params) = key.and_then(|_| challenge::params(error)) {
        return unauthorized(&format!("{CHALLENGE} {params}"), &text());
    }
    if TokenError::find_in(error).is_none() {
        return broken(upstream, &explain(error));
    }
    let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, text());
    let end = upstream.tokens.cooldown_until(key);
    let wait = end.map(|until| until.saturating_duration_since(tokio::time::Instant::now()));
    if let Some(wait) = wait {
        response.headers_mut().insert(RETRY_AFTER, (wait.as_secs() + 1).into());
    }
    response
}

/// Asks the client for a bearer token of its user, or for another one (RFC 6750 §3).
fn unauthorized(challenge: &str, problem: &str) -> Response<Body> {
    let mut response = answer(StatusCode::UNAUTHORIZED, format!("sidecar: {problem}"));
    if let Ok(challenge) = HeaderValue::try_from(challenge) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

fn broken(upstream: &Upstream, error: &str) -> Response<Body> {
    tracing::warn!(upstream = upstream.name, error, "not forwarded");
    answer(StatusCode::BAD_GATEWAY, format!("the upstream `{}` failed: {error}", upstream.name))
}
