//! One request, from the client to the upstream, and its response back.

use std::{sync::Arc, time::Instant};

use axum::body::{Body, HttpBody};
use http::{
    HeaderMap, Method, Request, Response, StatusCode, Uri, Version,
    header::{HOST, RETRY_AFTER},
    uri::Authority,
};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tower::{Layer, ServiceExt};
use tower_bearer::{BoxError, Origin, TokenError};

use crate::{
    budget::Budget,
    config::Replay,
    error::explain,
    headers,
    held::Held,
    upstream::{Upstream, climbs},
};

/// How long connecting may take. How long an answer may take is for the client to say.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

pub(crate) struct Forwarder {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    replay: Replay,
    budget: Budget,
    hosts: Vec<String>,
}

/// Why a request is not forwarded, and what the client is told.
pub(crate) struct Refusal(StatusCode, &'static str);

impl Forwarder {
    pub(crate) fn new(replay: Replay, hosts: Vec<String>) -> std::io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let tls = HttpsConnectorBuilder::new().with_native_roots()?.https_or_http();
        let connector = tls.enable_http1().enable_http2().wrap_connector(tcp);
        let mut client = Client::builder(TokioExecutor::new());
        let client = client.pool_timer(TokioTimer::new()).build(connector);
        Ok(Self { client, replay, budget: Budget::new(replay.total), hosts })
    }

    /// How many bytes are kept for replays at most, at the moment.
    pub(crate) fn kept(&self) -> usize {
        (self.replay.total as usize).saturating_sub(self.budget.free())
    }

    /// Refuses what must not be forwarded, wherever it goes.
    pub(crate) fn admit<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let names = names(request.uri(), request.headers());
        let names = names.ok_or(Refusal(StatusCode::BAD_REQUEST, "there is no single Host"))?;
        if !names.iter().all(|name| self.is_known(name)) {
            let problem = "the request names a host that is not this sidecar's: use the \
                           sidecar's own address, or add the name to `hosts`";
            return Err(Refusal(StatusCode::MISDIRECTED_REQUEST, problem));
        }
        // A TRACE would show the client the token; a CONNECT names a host.
        if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
            let problem = "TRACE and CONNECT are not forwarded";
            return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, problem));
        }
        if !request.uri().path().starts_with('/') || climbs(request.uri().path()) {
            return Err(Refusal(StatusCode::BAD_REQUEST, "the path has a `.` or `..` in it"));
        }
        Ok(())
    }

    /// Forwards to the first upstream that wants the path.
    pub(crate) async fn forward(
        &self,
        upstreams: &[Arc<Upstream>],
        request: Request<Incoming>,
    ) -> Response<Body> {
        let started = Instant::now();
        let wants = |upstream: &Arc<Upstream>| {
            upstream.target(request.uri()).map(|target| (Arc::clone(upstream), target))
        };
        let Some((upstream, target)) = upstreams.iter().find_map(wants) else {
            return Refusal(StatusCode::NOT_FOUND, "no upstream has this path").into();
        };
        let request = outbound(request, target);
        let response = match self.send(&upstream, request).await {
            Ok(mut response) => {
                headers::end_of_hop(response.headers_mut());
                *response.version_mut() = Version::default();
                response.map(Body::new)
            }
            Err(error) => failed(&upstream, &error),
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

    /// With as much kept for a replay as the body needs, if there is room.
    async fn send(
        &self,
        upstream: &Upstream,
        request: Request<Incoming>,
    ) -> Result<Response<Incoming>, BoxError> {
        let (limit, client) = (self.limit(request.body()), self.client.clone());
        let Some(reservation) = limit.and_then(|limit| self.budget.reserve(limit)) else {
            metrics::counter!("sidecar_unkept_total", "upstream" => upstream.name.clone())
                .increment(1);
            let service = upstream.layer.clone().no_replay().layer(client);
            return service.oneshot(request.map(Body::new)).await;
        };
        let (limit, reservation) = (limit.unwrap_or_default() as usize, Arc::new(reservation));
        let layer = upstream.layer.clone().buffer_body(limit, move |body| {
            Body::new(Held::new(body, limit, Arc::clone(&reservation)))
        });
        layer.layer(client).oneshot(request).await
    }

    /// How much may have to be kept of a body; `None` if it is too large anyway.
    fn limit(&self, body: &Incoming) -> Option<u32> {
        let hint = body.size_hint();
        let most = hint.upper().unwrap_or(u64::MAX).min(self.replay.per_request.into());
        if hint.lower() > most { None } else { u32::try_from(most).ok() }
    }

    /// Whether a name is this machine's: an address cannot be made to mean something else, as a
    /// name in somebody's DNS can.
    fn is_known(&self, name: &Authority) -> bool {
        let host = name.host();
        let is_address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        let is_loopback =
            format!("http://{host}").parse::<Origin>().is_ok_and(|origin| origin.is_loopback());
        is_address || is_loopback || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }
}

/// Every host that the request names; `None` if there is none, or more than one `Host`.
fn names(uri: &Uri, headers: &HeaderMap) -> Option<Vec<Authority>> {
    let mut names: Vec<_> = uri.authority().cloned().into_iter().collect();
    let mut hosts = headers.get_all(HOST).iter();
    if let Some(host) = hosts.next() {
        names.push(host.to_str().ok()?.parse().ok()?);
    }
    (hosts.next().is_none() && !names.is_empty()).then_some(names)
}

fn outbound(request: Request<Incoming>, target: Uri) -> Request<Incoming> {
    let (mut parts, body) = request.into_parts();
    headers::onward(&mut parts.headers);
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = target;
    *request.headers_mut() = parts.headers;
    request
}

fn failed(upstream: &Upstream, error: &BoxError) -> Response<Body> {
    let Some(error) = error.downcast_ref::<TokenError>() else {
        tracing::warn!(upstream = upstream.name, error = explain(&**error), "not forwarded");
        let text = format!("the upstream `{}` failed: {}", upstream.name, explain(&**error));
        return answer(StatusCode::BAD_GATEWAY, text);
    };
    let text = format!("no access token for `{}`: {}", upstream.name, explain(error));
    let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, text);
    let rest = upstream.cache.status().resting_until();
    let wait = rest.map(|until| until.saturating_duration_since(tokio::time::Instant::now()));
    if let Some(wait) = wait {
        response.headers_mut().insert(RETRY_AFTER, (wait.as_secs() + 1).into());
    }
    response
}

/// A page of the sidecar's own.
pub(crate) fn answer(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Body::from(text.into() + "\n"));
    *response.status_mut() = status;
    let text = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, text);
    response
}

impl From<Refusal> for Response<Body> {
    fn from(Refusal(status, problem): Refusal) -> Self {
        answer(status, format!("sidecar: {problem}"))
    }
}
