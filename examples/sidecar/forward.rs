//! One request, from the client to the upstream, and its response back.

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
    connection::Asked,
    connector::Connector,
    error::explain,
    headers,
    held::Kept,
    replay,
    upstream::Upstream,
};

/// What a client needs who has come without a user's token.
const CHALLENGE: &str = "Bearer";

pub(crate) struct Forwarder {
    client: Client<Connector, Body>,
    replay: Replay,
    budget: Budget,
    /// Without tokens, to measure what they cost.
    bare: bool,
}

impl Forwarder {
    /// `connect` is how long connecting may take. How long an answer may take is for the client
    /// to say.
    pub(crate) fn new(replay: Replay, connect: Duration, bare: bool) -> io::Result<Self> {
        let connector = Connector::new(connect)?;
        let mut client = Client::builder(TokioExecutor::new());
        let client = client.pool_timer(TokioTimer::new()).build(connector);
        Ok(Self { client, replay, budget: Budget::new(replay.total), bare })
    }

    /// How many bytes are kept for replays at most, at the moment.
    pub(crate) fn kept(&self) -> usize {
        (self.replay.total as usize).saturating_sub(self.budget.free())
    }

    /// Forwards to the first upstream that wants the path.
    pub(crate) async fn forward(
        &self,
        upstreams: &[Arc<Upstream>],
        request: Request<Asked>,
    ) -> Response<Body> {
        let started = Instant::now();
        let wants = |upstream: &Arc<Upstream>| {
            upstream.target(request.uri()).map(|target| (Arc::clone(upstream), target))
        };
        let Some((upstream, target)) = upstreams.iter().find_map(wants) else {
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

    /// With the token of that key, if it is one on behalf of a user.
    async fn forward_to(
        &self,
        upstream: &Upstream,
        mut request: Request<Asked>,
        key: Option<TokenKey>,
    ) -> Response<Body> {
        if let Some(key) = &key {
            request.extensions_mut().insert(key.clone());
        }
        match self.send(upstream, request).await {
            Ok(response) if headers::has_unknown_coding(response.headers()) => {
                broken(upstream, "its answer is in a transfer coding that is not understood")
            }
            Ok(mut response) => {
                headers::end_of_hop(response.headers_mut());
                *response.version_mut() = Version::default();
                response.map(Body::new)
            }
            Err(error) => failed(upstream, key.as_ref(), &*error),
        }
    }

    /// With as much kept for a replay as the body needs, if there is room.
    async fn send(
        &self,
        upstream: &Upstream,
        request: Request<Asked>,
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

    /// Reserves what may have to be kept of a body; `None` if that is too much.
    fn keep(&self, body: &impl HttpBody) -> Option<Kept> {
        let limit = self.limit(body)?;
        let reservation = self.budget.reserve(limit)?;
        Some(Kept::new(limit as usize, reservation))
    }

    /// How much may have to be kept of a body; `None` if it is too large anyway.
    fn limit(&self, body: &impl HttpBody) -> Option<u32> {
        let hint = body.size_hint();
        let most = hint.upper().unwrap_or(u64::MAX).min(self.replay.per_request.into());
        if hint.lower() > most { None } else { u32::try_from(most).ok() }
    }
}

fn outbound(request: Request<Asked>, target: Uri, upstream: &Upstream) -> Request<Asked> {
    let (mut parts, body) = request.into_parts();
    headers::onward(&mut parts.headers, upstream.header.name());
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

/// The client has to come with a bearer token of its user's, or with another one (RFC 6750 §3).
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
