//! A server on a free port of this machine, for HTTP/1 and for HTTP/2 without TLS.

use std::{io, net::SocketAddr};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};

/// Serves until the program ends.
pub(crate) async fn serve(router: Router) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => {
                    drop(tokio::spawn(serve_connection(connection, router.clone())));
                }
                Err(error) => tracing::warn!(%error, "a connection was not accepted"),
            }
        }
    });
    Ok(address)
}

async fn serve_connection(connection: TcpStream, router: Router) {
    // The frames are small, and clients wait for each of them.
    drop(connection.set_nodelay(true));
    let mut server = auto::Builder::new(TokioExecutor::new());
    // A thousand calls share one connection.
    server.http2().max_concurrent_streams(None);
    let service = TowerToHyperService::new(router);
    if let Err(error) = server.serve_connection(TokioIo::new(connection), service).await {
        tracing::debug!(%error, "a connection broke");
    }
}
