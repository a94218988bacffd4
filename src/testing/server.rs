//! A server on loopback that stops when its handle is dropped.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::error::BoxError;

/// How long the server waits if the operating system gives it no connection.
const PAUSE: Duration = Duration::from_millis(10);

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// Closes the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut")]
pub(super) struct Cut;

/// How a server handles its requests.
pub(super) trait Handler: Send + Sync + 'static {
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Answer, Cut>> + Send;
}

#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    accepting: JoinHandle<Infallible>,
}

// ===== impl Server =====

impl Server {
    pub(super) async fn start(handler: Arc<impl Handler>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, accepting: tokio::spawn(accept(listener, handler)) })
    }

    /// Scheme, host and port.
    pub(super) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The connections' tasks end with the set that they are in.
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, handler: Arc<impl Handler>) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream, handler.clone()));
        } else {
            // Too many open files, say.
            tokio::time::sleep(PAUSE).await;
        }
        // Forgets the connections that have ended.
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, handler: Arc<impl Handler>) {
    let service = service_fn(move |request| handler.clone().handle(request));
    let mut http = http1::Builder::new();
    let connection = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    // Whatever went wrong, the client has seen it.
    let _ = connection.await;
}

/// Answers before the request has been read to its end.
///
/// The head goes out at once. Meanwhile the server reads the rest of the request and discards it:
/// closing a connection with unread data would lose the answer.
pub(super) fn early(status: StatusCode, unread: Incoming) -> Answer {
    let mut response = Response::new(unread.map_frame(|_| Frame::data(Bytes::new())));
    *response.status_mut() = status;
    boxed(response)
}

/// A response whose body may be of any type.
pub(super) fn boxed<B>(response: Response<B>) -> Answer
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}
