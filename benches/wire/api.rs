//! The API: it answers with 1 KiB and says whether the request had a token.

use std::{convert::Infallible, net::SocketAddr, sync::mpsc, thread};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, runtime::Builder};

/// What it says.
pub(crate) const SEEN: &str = "x-seen";

static ANSWER: [u8; 1024] = [b'x'; 1024];

/// Starts it on a thread of its own, which ends with the process.
pub(crate) fn start() -> SocketAddr {
    let (sender, address) = mpsc::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        runtime.block_on(async {
            let listener =
                TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
            sender
                .send(listener.local_addr().expect("it is bound"))
                .expect("somebody waits for it");
            serve(listener).await;
        });
    });
    address.recv().expect("it starts")
}

async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).expect("it is a socket");
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let service = hyper::service::service_fn(answer);
            // A client that goes is no failure.
            drop(server.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let has_token = request.headers().contains_key(AUTHORIZATION);
    let seen = if has_token { "a token" } else { "no token" };
    let response = Response::builder().header(SEEN, seen);
    Ok(response.body(Full::new(Bytes::from_static(&ANSWER))).expect("that is a response"))
}
