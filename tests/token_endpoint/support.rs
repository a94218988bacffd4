//! Requests to a token endpoint whose service is scripted, and what came of them.

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower_bearer::{
    AccessToken, BoxError, Reason, TokenError, TokenRequest,
    oauth2::{EndpointError, EndpointErrorKind, TokenEndpoint, TokenEndpointBuilder},
};
#[cfg(feature = "keyed")]
use tower_bearer::{Subject, TokenKey};

pub(crate) use crate::scripted::{Scripted, Seen, Step, answer, answer_with, slow};

pub(crate) const URL: &str = "https://auth.example.com/token";
pub(crate) const OK: &str = r#"{"access_token":"at-1","token_type":"Bearer","expires_in":3600}"#;

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
