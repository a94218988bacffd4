//! A gRPC service that requires tokens, and its client. With a `.proto` file, tonic's build script
//! writes all of this for you.

use axum::{Router, extract::Request as HttpRequest};
use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, StreamExt, TryStreamExt, stream, stream::BoxStream};
use http::{HeaderMap, uri::PathAndQuery};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    client::GrpcService,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tower::service_fn;
use tower_bearer::BoxError;

use super::Tokens;

/// Greets: one message in, one message out.
pub(crate) const HELLO: &str = "/demo.Greeter/Hello";
/// Reads all messages before it checks the token, and answers with all of them.
pub(crate) const JOIN: &str = "/demo.Greeter/Join";
/// Like `JOIN`, but checks the token first.
pub(crate) const STRICT_JOIN: &str = "/demo.Greeter/StrictJoin";
/// Answers with a message before it checks the token, so that status 16 is in the trailers.
pub(crate) const LATE: &str = "/demo.Greeter/Late";

type Answers = BoxStream<'static, Result<String, Status>>;

// ===== The server =====

pub(crate) fn server(tokens: &Tokens) -> Router {
    let tokens = tokens.clone();
    server_with(move |headers| tokens.check(headers))
}

/// A server that answers a valid token with what `check` returns for it.
pub(crate) fn server_with(
    check: impl Fn(&HeaderMap) -> Option<String> + Clone + Send + Sync + 'static,
) -> Router {
    Router::new().fallback(move |request: HttpRequest| async move {
        let path = request.uri().path().to_owned();
        let headers = request.headers().clone();
        let service = service_fn(move |request: Request<Streaming<String>>| {
            let (check, path, headers) = (check.clone(), path.clone(), headers.clone());
            async move {
                let messages = request.into_inner();
                answer(|| check(&headers), &path, messages).await.map(Response::new)
            }
        });
        tonic::server::Grpc::new(Text).streaming(service, request).await
    })
}

async fn answer(
    check: impl Fn() -> Option<String>,
    path: &str,
    messages: Streaming<String>,
) -> Result<Answers, Status> {
    let check = || check().ok_or_else(|| Status::unauthenticated("the token is invalid"));
    match path {
        HELLO | JOIN => {
            let all = messages.try_collect::<Vec<_>>().await?.join(" ");
            let token = check()?;
            Ok(stream::iter([Ok(format!("hello, {all} with {token}"))]).boxed())
        }
        STRICT_JOIN => {
            let token = check()?;
            let all = messages.try_collect::<Vec<_>>().await?.join(" ");
            Ok(stream::iter([Ok(format!("hello, {all} with {token}"))]).boxed())
        }
        LATE => {
            let outcome = check().map(|token| format!("with {token}"));
            Ok(stream::iter([Ok("hello".to_owned()), outcome]).boxed())
        }
        _ => Err(Status::unimplemented(path)),
    }
}

// ===== The client =====

#[derive(Clone, Debug)]
pub(crate) struct GreeterClient<S> {
    inner: tonic::client::Grpc<S>,
}

impl<S> GreeterClient<S>
where
    S: GrpcService<Body>,
    S::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<BoxError> + Send,
{
    pub(crate) fn new(stack: S) -> Self {
        Self { inner: tonic::client::Grpc::new(stack) }
    }

    pub(crate) async fn hello(&mut self, name: &str) -> Result<String, Status> {
        self.hello_with(Request::new(name.to_owned())).await
    }

    /// Like [`Self::hello`], with the extensions of the request, such as a `TokenKey`.
    pub(crate) async fn hello_with(&mut self, request: Request<String>) -> Result<String, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(HELLO);
        let response = self.inner.unary(request, path, Text).await?;
        Ok(response.into_inner())
    }

    /// Client streaming.
    pub(crate) async fn join(
        &mut self,
        path: &'static str,
        messages: impl Stream<Item = String> + Send + 'static,
    ) -> Result<String, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(path);
        let response = self.inner.client_streaming(Request::new(messages), path, Text).await?;
        Ok(response.into_inner())
    }

    /// Server streaming.
    pub(crate) async fn late(&mut self) -> Result<Streaming<String>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(LATE);
        let request = Request::new(String::new());
        Ok(self.inner.server_streaming(request, path, Text).await?.into_inner())
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.inner.ready().await.map_err(|error| Status::from_error(error.into()))
    }
}

// ===== impl Text =====

/// Messages that are plain text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, message: String, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(message.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let message = buffer.copy_to_bytes(buffer.remaining());
        let text = String::from_utf8(message.into());
        text.map(Some).map_err(|_| Status::internal("the message is not UTF-8"))
    }
}
