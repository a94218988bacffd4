//! One call, one fetch, one request by hand.

use std::{net::SocketAddr, time::Duration};

use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tower::{Layer, ServiceExt};
use tower_bearer::{
    AccessToken, BearerAuth, BearerAuthLayer, Reason, TokenError, TokenRequest,
    oauth2::{EndpointError, ReqwestService, TokenEndpointBuilder},
    testing::{Dialect, World},
};

const BOUND: Duration = Duration::from_secs(30);
pub(crate) const DIALECTS: [Dialect; 5] =
    [Dialect::Rfc6749, Dialect::GreenNode, Dialect::Ianum, Dialect::IbmCloud, Dialect::IbmVerify];
/// `CLIENT_ID` and `CLIENT_SECRET`, escaped and joined by a colon, in base64.
pub(crate) const BASIC: &str = "Authorization: Basic bXktYXBwOmElMjBzZWNyZXQlMkIxMDAlMjU=";
pub(crate) const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

pub(crate) type Stack = BearerAuth<ReqwestService>;

pub(crate) async fn bounded<T>(future: impl Future<Output = T>) -> T {
    timeout(BOUND, future).await.expect("bounded")
}

pub(crate) async fn world() -> World {
    World::start().await.unwrap()
}

pub(crate) fn stack(world: &World, endpoint: TokenEndpointBuilder) -> Stack {
    let layer = BearerAuthLayer::new(endpoint.build().unwrap());
    layer.origin(world.api().origin()).unwrap().layer(ReqwestService::default())
}

/// One call with a body: the status, the headers and the body of what comes back.
pub(crate) async fn call(
    stack: &Stack,
    url: String,
    body: &str,
) -> (StatusCode, HeaderMap, String) {
    let request = Request::post(url).header("content-type", "text/x-poem").body(body.to_owned());
    let response = bounded(stack.clone().oneshot(request.unwrap())).await.unwrap();
    let (head, body) = response.into_parts();
    let body = bounded(body.collect()).await.unwrap().to_bytes();
    (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
}

/// One attempt, without a cache.
pub(crate) async fn fetch(endpoint: TokenEndpointBuilder) -> Result<AccessToken, TokenError> {
    let endpoint = endpoint.build().unwrap();
    bounded(endpoint.fetch(TokenRequest::new(Reason::First))).await
}

pub(crate) fn cause(error: &TokenError) -> &EndpointError {
    error.downcast_ref().expect("every error of an endpoint has an `EndpointError` in it")
}

pub(crate) fn address(url: &str) -> SocketAddr {
    url.strip_prefix("http://").unwrap().split('/').next().unwrap().parse().unwrap()
}

pub(crate) fn token_address(world: &World) -> SocketAddr {
    address(&world.tokens().url(Dialect::Rfc6749))
}

/// Sends these bytes, and reads until the server closes the connection.
pub(crate) async fn raw(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that refuses what it has not read may close the connection before.
    let _ = stream.write_all(bytes.as_ref()).await;
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = bounded(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Posts a body to a path of the token service: the status line, and the JSON of the answer.
pub(crate) async fn post(
    world: &World,
    path: &str,
    headers: &[&str],
    body: &str,
) -> (String, Value) {
    let (length, headers) = (body.len(), headers.join("\r\n"));
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n\
         {headers}\r\n\r\n{body}"
    );
    let answer = raw(token_address(world), request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap())
}

pub(crate) fn get(authorization: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}\r\n")
}
