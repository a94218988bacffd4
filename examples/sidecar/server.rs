//! Listening, and coming to an end.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::body::Body;
use http::{Request, Response};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    net::{TcpListener, TcpStream},
    signal,
    task::JoinSet,
    time::timeout,
};

use crate::{
    connection::{self, Asked},
    connections::{Connections, Listed},
    forward::Forwarder,
    meter, pages,
    plan::Plan,
    tokens::Tokens,
    upstream::Upstream,
};

/// An address that no request can name.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What all connections share.
struct Sidecar {
    plan: Plan,
    connections: Arc<Connections>,
    forwarder: Forwarder,
    metrics: PrometheusHandle,
}

/// What is behind a port: everything with a path, or one upstream.
#[derive(Clone)]
enum Behind {
    All,
    One(Arc<Upstream>),
}

/// Serves until it is told to stop.
pub(crate) async fn run(plan: Plan, bare: bool) -> Result<(), String> {
    let cannot = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let metrics = meter::install()?;
    let forwarder = Forwarder::new(plan.replay, plan.connect, bare)
        .map_err(|error| cannot("the root certificates cannot be read", &error))?;
    let mut stop = stop_signals().map_err(|error| cannot("no signal can be waited for", &error))?;

    // All of them before the first is announced.
    let mut doors = vec![(Behind::All, bind(plan.listen).await?)];
    for (address, upstream) in &plan.by_port {
        doors.push((Behind::One(Arc::clone(upstream)), bind(*address).await?));
    }
    // The first tokens are fetched before anybody asks.
    plan.sources.values().for_each(Tokens::keep_warm);
    let drain = plan.drain;
    let connections = Arc::new(Connections::new(plan.max_connections, plan.limits));
    let sidecar = Arc::new(Sidecar { plan, connections, forwarder, metrics });
    let mut loops = JoinSet::new();
    for (behind, listener) in doors {
        announce(&behind, &listener)?;
        loops.spawn(accept(listener, behind, Arc::clone(&sidecar)));
    }
    stop.recv().await;
    loops.shutdown().await;
    tracing::info!(at_most = ?drain, "draining: what is under way may end, nothing more begins");
    if timeout(drain, sidecar.connections.end()).await.is_err() {
        tracing::warn!("requests that were still under way have been cut off");
    }
    tracing::info!("ended");
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| format!("cannot listen on {address}: {error}"))
}

fn announce(behind: &Behind, listener: &TcpListener) -> Result<(), String> {
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    match behind {
        Behind::All => println!("listening on http://{address}"),
        Behind::One(upstream) => println!("listening on http://{address} for {}", upstream.name),
    }
    if !address.ip().to_canonical().is_loopback() {
        tracing::warn!(%address, "listening beyond this machine: who can connect can use the tokens");
    }
    Ok(())
}

async fn accept(listener: TcpListener, behind: Behind, sidecar: Arc<Sidecar>) {
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                // Until there is room, whoever connects waits in the listener's queue.
                let room = sidecar.connections.room().await;
                let listed = sidecar.connections.add(room);
                tokio::spawn(talk(connection, listed, behind.clone(), Arc::clone(&sidecar)));
            }
            Err(error) => {
                // Most likely there are too many open files.
                tracing::warn!(%error, "a connection was not accepted");
                sidecar.connections.make_room();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn talk(connection: TcpStream, listed: Listed, behind: Behind, sidecar: Arc<Sidecar>) {
    let local = connection.local_addr().map_or(NOWHERE, |address| address.ip());
    // Server-sent events are small, and waited for.
    drop(connection.set_nodelay(true));
    let answer = move |request| {
        let (behind, sidecar) = (behind.clone(), Arc::clone(&sidecar));
        async move { sidecar.answer(&behind, local, request).await }
    };
    match connection::serve(connection, Arc::clone(&listed.activity), answer).await {
        Ok(None) => {}
        Ok(Some(why)) => {
            metrics::counter!("sidecar_connections_ended_total", "reason" => why.as_str())
                .increment(1);
        }
        Err(error) => tracing::debug!(error, "a connection broke"),
    }
}

impl Sidecar {
    /// `local` is where the client has connected to.
    async fn answer(
        &self,
        behind: &Behind,
        local: IpAddr,
        request: Request<Asked>,
    ) -> Response<Body> {
        if let Err(refusal) = self.plan.admission.check(&request, local) {
            return refusal.into();
        }
        match behind {
            Behind::One(upstream) => {
                self.forwarder.forward(std::slice::from_ref(upstream), request).await
            }
            Behind::All => {
                let asked = (request.method(), request.uri().path());
                match pages::page(asked, &self.plan, &self.forwarder, &self.metrics) {
                    Some(page) => page,
                    None => self.forwarder.forward(&self.plan.by_path, request).await,
                }
            }
        }
    }
}

// ===== Signals =====

#[cfg(unix)]
struct Stop {
    terminate: signal::unix::Signal,
    interrupt: signal::unix::Signal,
}

#[cfg(unix)]
fn stop_signals() -> std::io::Result<Stop> {
    use signal::unix::SignalKind;
    Ok(Stop {
        terminate: signal::unix::signal(SignalKind::terminate())?,
        interrupt: signal::unix::signal(SignalKind::interrupt())?,
    })
}

#[cfg(unix)]
impl Stop {
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Stop;

#[cfg(not(unix))]
fn stop_signals() -> std::io::Result<Stop> {
    Ok(Stop)
}

#[cfg(not(unix))]
impl Stop {
    async fn recv(&mut self) {
        drop(signal::ctrl_c().await);
    }
}
