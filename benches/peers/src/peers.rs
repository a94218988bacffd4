//! The peers: what each does to a request.

mod aliri;
mod azure;
mod google;
mod handwritten;
mod ours;
mod ready;

use std::{convert::Infallible, fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use tower_bearer_benches::{Answer, Body, request, uri, walk};
use tower_service::Service;

use crate::{api::Api, token_service::TokenService};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Floor,
    TowerHttp,
    NoReplay,
    CloneBody,
    Aliri,
    RwLock,
    Mutex,
    Google,
    AzureFloor,
    Azure,
}

/// One request that finds a token and is answered at once.
pub(crate) type Warm = Box<dyn FnMut()>;

/// One request to the API, and how it ended.
pub(crate) type Send = Arc<dyn Fn() -> BoxFuture<'static, StatusCode> + std::marker::Send + Sync>;

/// A peer that has been given its token service and the API.
pub(crate) struct Ready {
    pub(crate) warm: Warm,
    pub(crate) send: Send,
}

impl Peer {
    pub(crate) const ALL: [Self; 10] = [
        Self::Floor,
        Self::TowerHttp,
        Self::NoReplay,
        Self::CloneBody,
        Self::Aliri,
        Self::RwLock,
        Self::Mutex,
        Self::Google,
        Self::AzureFloor,
        Self::Azure,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::TowerHttp => "tower-http",
            Self::NoReplay => "tower-bearer, NoReplay",
            Self::CloneBody => "tower-bearer",
            Self::Aliri => "aliri_tokens",
            Self::RwLock => "oauth2 + RwLock",
            Self::Mutex => "oauth2 + Mutex",
            Self::Google => "google-cloud-auth",
            Self::AzureFloor => "azure_core's floor",
            Self::Azure => "azure_core",
        }
    }

    /// What its time is compared to. The requests of azure_core are its own, and so is their floor.
    pub(crate) const fn floor(self) -> Self {
        match self {
            Self::Azure | Self::AzureFloor => Self::AzureFloor,
            _ => Self::Floor,
        }
    }

    /// Whether it fetches tokens.
    pub(crate) const fn fetches(self) -> bool {
        !matches!(self, Self::Floor | Self::TowerHttp | Self::AzureFloor)
    }

    pub(crate) async fn with(self, tokens: &TokenService, api: &Api) -> Ready {
        match self {
            Self::Floor => ready(&ready::Floor::new(tokens).await, api),
            Self::TowerHttp => ready(&ready::TowerHttp::new(tokens).await, api),
            Self::NoReplay => ready(&ours::NoReplay::new(tokens), api),
            Self::CloneBody => ready(&ours::CloneBody::new(tokens), api),
            Self::Aliri => ready(&aliri::Watched::new(tokens).await, api),
            Self::RwLock => ready(&handwritten::WithRwLock::new(tokens), api),
            Self::Mutex => ready(&handwritten::WithMutex::new(tokens), api),
            Self::Google => ready(&google::Account::new(tokens).await, api),
            Self::AzureFloor => azure::floor(tokens, api).await,
            Self::Azure => azure::azure(tokens, api),
        }
    }
}

/// Something that puts a token on the requests of a tower service.
trait Auth {
    fn before(&self, inner: impl Inner) -> impl Outer;
}

trait Inner:
    Service<Request<Body>, Response = Response<()>, Error = Infallible, Future: std::marker::Send>
    + Clone
    + std::marker::Send
    + Sync
    + 'static
{
}

impl<S> Inner for S where
    S: Service<
            Request<Body>,
            Response = Response<()>,
            Error = Infallible,
            Future: std::marker::Send,
        > + Clone
        + std::marker::Send
        + Sync
        + 'static
{
}

trait Outer:
    Service<Request<Body>, Response = Response<()>, Error: Debug, Future: std::marker::Send>
    + Clone
    + std::marker::Send
    + Sync
    + 'static
{
}

impl<S> Outer for S where
    S: Service<Request<Body>, Response = Response<()>, Error: Debug, Future: std::marker::Send>
        + Clone
        + std::marker::Send
        + Sync
        + 'static
{
}

fn ready(auth: &impl Auth, api: &Api) -> Ready {
    let (mut warm, service, uri) = (auth.before(Answer), auth.before(api.clone()), uri());
    let warm_uri = uri.clone();
    let send = move || -> BoxFuture<'static, StatusCode> {
        let (mut service, request) = (service.clone(), request(&uri));
        Box::pin(async move { service.call(request).await.expect("there is a token").status() })
    };
    Ready { warm: Box::new(move || walk(&mut warm, &warm_uri)), send: Arc::new(send) }
}
