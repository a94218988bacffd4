//! A token service and an API that requires its tokens, both on this machine, so that the examples
//! work without an account. A real program needs none of this.
#![allow(dead_code, reason = "each example uses a part of it")]

pub(crate) mod accounts;
pub(crate) mod grpc;
pub(crate) mod tls;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use axum::{
    Json, Router,
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use tokio::{net::TcpListener, sync::watch};
use tower_bearer::{
    BoxError,
    oauth2::{InvalidEndpoint, TokenEndpoint},
};

/// The tokens of one token service: `t1`, `t2`, and so on.
#[derive(Clone, Debug)]
pub(crate) struct Tokens(Arc<State>);

#[derive(Debug)]
struct State {
    prefix: &'static str,
    issued: AtomicUsize,
    revoked: AtomicUsize,
    shown: watch::Sender<Vec<String>>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self::with_prefix("t")
    }
}

impl Tokens {
    /// Tokens that begin with `prefix` instead of `t`.
    pub(crate) fn with_prefix(prefix: &'static str) -> Self {
        let (issued, revoked, shown) = Default::default();
        Self(Arc::new(State { prefix, issued, revoked, shown }))
    }

    pub(crate) fn issue(&self) -> String {
        format!("{}{}", self.0.prefix, self.0.issued.fetch_add(1, SeqCst) + 1)
    }

    /// The number of issued tokens: one for each fetch.
    pub(crate) fn issued(&self) -> usize {
        self.0.issued.load(SeqCst)
    }

    /// Revokes every token that was issued so far.
    pub(crate) fn revoke(&self) {
        self.0.revoked.store(self.issued(), SeqCst);
    }

    /// The tokens that the API got so far, one for each request; `none` if a request had none.
    pub(crate) fn shown(&self) -> Vec<String> {
        self.0.shown.borrow().clone()
    }

    /// Waits until the API has got this many requests.
    pub(crate) async fn were_shown(&self, count: usize) {
        let mut shown = self.0.shown.subscribe();
        shown.wait_for(|shown| shown.len() >= count).await.expect("`self` holds the sender");
    }

    /// The token of a request, if it is valid.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Option<String> {
        let header = headers.get(header::AUTHORIZATION).and_then(|header| header.to_str().ok());
        let token = header.map_or("none", |header| header.trim_start_matches("Bearer "));
        self.0.shown.send_modify(|shown| shown.push(token.to_owned()));
        let number: usize = token.strip_prefix(self.0.prefix)?.parse().ok()?;
        let is_valid = number > self.0.revoked.load(SeqCst) && number <= self.issued();
        is_valid.then(|| token.to_owned())
    }
}

/// A source that fetches from this token service.
pub(crate) fn endpoint(token_url: &str) -> Result<TokenEndpoint, InvalidEndpoint> {
    TokenEndpoint::builder(token_url).client_id("my-app").client_secret("s3cr3t").build()
}

/// The token service: `POST /token`.
pub(crate) fn token_service(tokens: &Tokens) -> Router {
    let tokens = tokens.clone();
    let answer = move || async move {
        Json(serde_json::json!({ "access_token": tokens.issue(), "expires_in": 3600 }))
    };
    Router::new().route("/token", post(answer))
}

/// An API that answers with the call and its token if the token is valid, and otherwise with 401
/// (RFC 6750 §3).
pub(crate) fn protected_api(tokens: &Tokens) -> Router {
    let tokens = tokens.clone();
    Router::new().fallback(move |request: Request| async move { greet(&tokens, request).await })
}

async fn greet(tokens: &Tokens, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Some(token) = tokens.check(&head.headers) else {
        let challenge = r#"Bearer error="invalid_token""#;
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response();
    };
    match axum::body::to_bytes(body, 1024 * 1024).await {
        Ok(body) => {
            let body = String::from_utf8_lossy(&body);
            format!("{} {} with {token}: {body}", head.method, head.uri.path()).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

/// Serves on a free port until the program ends. Returns the origin.
pub(crate) async fn serve(router: Router) -> io::Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let origin = format!("http://{}", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok(origin)
}

/// A whole response body as text.
pub(crate) async fn text<B>(response: http::Response<B>) -> Result<String, BoxError>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    use http_body_util::BodyExt;

    let body = response.into_body().collect().await.map_err(Into::into)?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}
