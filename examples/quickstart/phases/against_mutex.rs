//! The same load twice, by the layer and by hand-written code: what calls notice of an expiry and
//! of a revocation.

use std::time::Duration;

use tokio::time::sleep;
use tower_bearer::{BoxError, RefreshPolicy};

use super::{
    EVERY, HOUR, Name, cast, limited,
    scene::{Scene, World},
};
use crate::{phase::Phase, report::Report};

/// How long a call is on its way: some are, whenever a token is revoked.
const DISTANCE: Duration = Duration::from_millis(25);

#[derive(Clone, Copy)]
enum Client {
    Layer,
    Mutex,
}

pub(crate) async fn run() -> Result<Report, BoxError> {
    let world = World::start(DISTANCE).await?;
    let mut cast = cast(&world);
    cast.push(("mutex", "the same client, with a token under a mutex in front of it".to_owned()));
    let report = Report::begin("tower-bearer and a hand-written mutex under the same load", cast);
    let phases = vec![
        limited("expiry", |name| expiry(&world, name, Client::Layer)).await?,
        limited("expiry, mutex", |name| expiry(&world, name, Client::Mutex)).await?,
        limited("revocation", |name| revocation(&world, name, Client::Layer)).await?,
        limited("revocation, mutex", |name| revocation(&world, name, Client::Mutex)).await?,
    ];
    Ok(Report { phases, abreast: 2, ..report })
}

async fn expiry(world: &World, name: Name, client: Client) -> Result<Phase, BoxError> {
    world.tokens.set_lifetime(Duration::from_secs(4));
    let plot = client.plot("tokens live for 4 s");
    let mut scene = client.open(world, name, &plot)?;
    scene.warm_up().await?;
    let outcomes = scene.load.steadily(EVERY, sleep(Duration::from_secs(5))).await?;
    scene.settle().await;
    Ok(scene.close(outcomes).all_succeeded())
}

async fn revocation(world: &World, name: Name, client: Client) -> Result<Phase, BoxError> {
    world.tokens.set_lifetime(HOUR);
    let plot = client.plot("the token is revoked once");
    let mut scene = client.open(world, name, &plot)?;
    scene.warm_up().await?;
    let end = async {
        sleep(Duration::from_millis(500)).await;
        world.tokens.revoke_all();
        scene.tell("the token is revoked");
        sleep(Duration::from_millis(1500)).await;
    };
    let outcomes = scene.load.steadily(EVERY, end).await?;
    scene.settle().await;
    Ok(scene.close(outcomes).all_succeeded())
}

impl Client {
    fn plot(self, what: &str) -> String {
        let by = match self {
            Self::Layer => "BearerAuthLayer",
            Self::Mutex => "a mutex, held while a token is fetched",
        };
        format!("{what}, 200 calls a second; {by}")
    }

    fn open<'a>(self, world: &'a World, name: Name, plot: &str) -> Result<Scene<'a>, BoxError> {
        match self {
            Self::Layer => Scene::open(world, name, plot, RefreshPolicy::default()),
            Self::Mutex => Ok(Scene::open_mutex(world, name, plot)),
        }
    }
}
