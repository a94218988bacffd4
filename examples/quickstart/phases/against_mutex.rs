//! The same load twice, with the layer and with hand-written code: the effect of an expiry and of a
//! revocation on calls.

use std::time::Duration;

use tokio::time::sleep;
use tower_bearer::{BoxError, RefreshPolicy};

use super::{
    EVERY, HOUR, Name, cast, limited,
    scene::{Scene, World},
};
use crate::{phase::Phase, report::Report};

/// The network delay of a call, so that some calls are on their way when the token is revoked.
const DELAY: Duration = Duration::from_millis(25);

#[derive(Clone, Copy)]
enum Client {
    Layer,
    Mutex,
}

pub(crate) async fn run() -> Result<Report, BoxError> {
    let world = World::start(DELAY).await?;
    let mut cast = cast(&world);
    cast.push(("mutex", "the same client behind hand-written code with a mutex".to_owned()));
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
    let summary = client.summary("tokens live for 4 s");
    let mut scene = client.open(world, name, &summary)?;
    scene.warm_up().await?;
    let outcomes = scene.load.steadily(EVERY, sleep(Duration::from_secs(5))).await?;
    scene.settle().await;
    Ok(scene.close(outcomes).all_succeeded())
}

async fn revocation(world: &World, name: Name, client: Client) -> Result<Phase, BoxError> {
    world.tokens.set_lifetime(HOUR);
    let summary = client.summary("the token is revoked once");
    let mut scene = client.open(world, name, &summary)?;
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
    fn summary(self, what: &str) -> String {
        let by = match self {
            Self::Layer => "BearerAuthLayer",
            Self::Mutex => "a mutex, held while a token is fetched",
        };
        format!("{what}, 200 calls a second; {by}")
    }

    fn open<'a>(self, world: &'a World, name: Name, summary: &str) -> Result<Scene<'a>, BoxError> {
        match self {
            Self::Layer => Scene::open(world, name, summary, RefreshPolicy::default()),
            Self::Mutex => Ok(Scene::open_mutex(world, name, summary)),
        }
    }
}
