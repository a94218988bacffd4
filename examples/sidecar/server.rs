//! Listens, serves and shuts down.

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
    connection::{self, RequestBody},
    connections::{Connections, Listed},
    forward::Forwarder,
    meter, pages,
    plan::Plan,
    tokens::Tokens,
    upstream::Upstream,
};

/// An address that no request can name.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What all connections share.
struct Sidecar {
    plan: Plan,
    connections: Arc<Connections>,
    forwarder: Forwarder,
    metrics: PrometheusHandle,
}

/// What a listener serves: all upstreams with a path, or one upstream.
#[derive(Clone)]
enum Served {
    All,
    One(Arc<Upstream>),
}

/// Serves until a signal stops the program.
pub(crate) async fn run(plan: Plan, bare: bool) -> Result<(), String> {
    let cannot = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let metrics = meter::install()?;
    let forwarder = Forwarder::new(plan.replay, plan.connect, bare)
        .map_err(|error| cannot("the root certificates cannot be read", &error))?;
    let mut stop = stop_signals()
        .map_err(|error| cannot("the signal handlers cannot be installed", &error))?;

    // Bind all addresses before announcing the first.
    let mut listeners = vec![(Served::All, bind(plan.listen).await?)];
    for (address, upstream) in &plan.by_port {
        listeners.push((Served::One(Arc::clone(upstream)), bind(*address).await?));
    }
    // Fetch the first tokens before the first request.
    plan.sources.values().for_each(Tokens::keep_warm);
    let drain = plan.drain;
    let connections = Arc::new(Connections::new(plan.max_connections, plan.limits));
    let sidecar = Arc::new(Sidecar { plan, connections, forwarder, metrics });
    let mut loops = JoinSet::new();
    for (served, listener) in listeners {
        announce(&served, &listener)?;
        loops.spawn(accept(listener, served, Arc::clone(&sidecar)));
    }
    stop.recv().await;
    loops.shutdown().await;
    tracing::info!(at_most = ?drain, "draining: no new requests, waiting for those in progress");
    if timeout(drain, sidecar.connections.end()).await.is_err() {
        tracing::warn!("some requests were still in progress and have been cut off");
    }
    tracing::info!("ended");
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| format!("cannot listen on {address}: {error}"))
}

fn announce(served: &Served, listener: &TcpListener) -> Result<(), String> {
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    match served {
        Served::All => println!("listening on http://{address}"),
        Served::One(upstream) => println!("listening on http://{address} for {}", upstream.name),
    }
    if !address.ip().to_canonical().is_loopback() {
        tracing::warn!(
            %address,
            "listening beyond this machine: every client that can connect can use the tokens"
        );
    }
    Ok(())
}

async fn accept(listener: TcpListener, served: Served, sidecar: Arc<Sidecar>) {
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                // Until there is room, new clients wait in the listener's queue.
                let room = sidecar.connections.room().await;
                let listed = sidecar.connections.add(room);
                tokio::spawn(serve(connection, listed, served.clone(), Arc::clone(&sidecar)));
            }
            Err(error) => {
                // Probably the process has too many open files.
                tracing::warn!(%error, "a connection was not accepted");
                sidecar.connections.make_room();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(connection: TcpStream, listed: Listed, served: Served, sidecar: Arc<Sidecar>) {
    let local = connection.local_addr().map_or(NO_ADDRESS, |address| address.ip());
    // Server-sent events are small, and clients wait for them.
    drop(connection.set_nodelay(true));
    let answer = move |request| {
        let (served, sidecar) = (served.clone(), Arc::clone(&sidecar));
        async move { sidecar.answer(&served, local, request).await }
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
    /// `local` is the address that the client connected to.
    async fn answer(
        &self,
        served: &Served,
        local: IpAddr,
        request: Request<RequestBody>,
    ) -> Response<Body> {
        if let Err(refusal) = self.plan.admission.check(&request, local) {
            return refusal.into();
        }
        match served {
            Served::One(upstream) => {
                self.forwarder.forward(std::slice::from_ref(upstream), request).await
            }
            Served::All => {
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
