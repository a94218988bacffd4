//! The demonstration: four events in the life of a token, and their effect on calls.

pub(crate) mod against_mutex;
mod scene;

use std::time::Duration;

use tokio::time::timeout;
use tower_bearer::{BoxError, RefreshPolicy};

use self::scene::{Scene, World};
use crate::{
    phase::Phase,
    report::{Report, grouped},
    token_service::ANSWERS_AFTER,
};

/// The number of calls in a phase that makes them all at once.
const MANY: u64 = 1000;
/// The interval between calls in a phase that makes them steadily.
const EVERY: Duration = Duration::from_millis(5);
/// The time limit of a phase.
const LIMIT: Duration = Duration::from_secs(20);

const HOUR: Duration = Duration::from_secs(3600);

type Name = &'static str;

/// Runs all phases.
pub(crate) async fn run() -> Result<Report, BoxError> {
    let world = World::start(Duration::ZERO).await?;
    let report = Report::begin("tower-bearer, on this machine only", cast(&world));
    let phases = vec![
        limited("cold start", |name| cold_start(&world, name)).await?,
        limited("revocation", |name| revocation(&world, name)).await?,
        limited("expiry", |name| expiry(&world, name)).await?,
        limited("outage", |name| outage(&world, name)).await?,
    ];
    Ok(Report { phases, ..report })
}

/// The parts of the demonstration.
fn cast(world: &World) -> Vec<(&'static str, String)> {
    let (tokens, api) = (&world.tokens.url, world.api.uri());
    let after = ANSWERS_AFTER.as_millis();
    vec![
        ("token service", format!("{tokens}, answers after {after} ms")),
        ("protected API", format!("{api}, answers 401 to invalid tokens")),
        ("client stack", "TraceLayer, BearerAuthLayer, hyper-util's client over HTTP/2".to_owned()),
    ]
}

async fn limited<F>(name: Name, phase: impl FnOnce(Name) -> F) -> Result<Phase, BoxError>
where
    F: Future<Output = Result<Phase, BoxError>>,
{
    let phase = timeout(LIMIT, phase(name)).await;
    let phase = phase.map_err(|_| format!("check failed: {name}: it ends within {LIMIT:?}"))??;
    phase.print_checks();
    Ok(phase)
}

/// Many calls at once, without a token.
async fn cold_start(world: &World, name: Name) -> Result<Phase, BoxError> {
    let summary = format!("{} calls at once, and no token yet", grouped(MANY));
    world.tokens.set_lifetime(HOUR);
    let scene = Scene::open(world, name, &summary, RefreshPolicy::default())?;

    // The token service answers once all calls wait for it.
    world.tokens.gate().close();
    let calls = scene.load.at_once(MANY).await?;
    scene.tell("all calls have been made; now the token service answers");
    world.tokens.gate().open();
    let outcomes = calls.outcomes().await;
    scene.settle().await;
    scene.tell("all calls have been answered");
    Ok(scene.close(outcomes).all_succeeded().exactly_fetched(1).exactly_waited(MANY))
}

/// A token is revoked while many calls carry it.
async fn revocation(world: &World, name: Name) -> Result<Phase, BoxError> {
    let summary = format!("the token is revoked while {} calls are in flight", grouped(MANY));
    world.tokens.set_lifetime(HOUR);
    let mut scene = Scene::open(world, name, &summary, RefreshPolicy::default())?;
    scene.warm_up().await?;

    world.api.gate().close();
    let arrived = world.api.counts().arrived;
    let calls = scene.load.at_once(MANY).await?;
    world.api.reached(|counts| counts.arrived == arrived + MANY).await;
    scene.tell("all calls have arrived with a valid token; the API holds them");
    world.tokens.revoke_all();
    scene.tell("the token is revoked; the API releases the calls");
    world.api.gate().open();
    let outcomes = calls.outcomes().await;
    scene.settle().await;
    scene.tell("all calls have been answered");
    Ok(scene.close(outcomes).all_succeeded().exactly_fetched(1).exactly_replayed(MANY))
}

/// Tokens live for a few seconds under steady load.
async fn expiry(world: &World, name: Name) -> Result<Phase, BoxError> {
    let summary = "tokens live for 4 s, 200 calls a second";
    world.tokens.set_lifetime(Duration::from_secs(4));
    let mut scene = Scene::open(world, name, summary, RefreshPolicy::default())?;
    scene.warm_up().await?;

    let report_tokens = async {
        loop {
            let issued = world.tokens.counts().issued;
            world.tokens.reached(|counts| counts.issued > issued).await;
            let calls = grouped(scene.load.calls());
            scene.tell(&format!("a new token has been fetched, {calls} calls so far"));
        }
    };
    let end = timeout(Duration::from_secs(9), report_tokens);
    let outcomes = scene.load.steadily(EVERY, end).await?;
    scene.settle().await;
    Ok(scene
        .close(outcomes)
        .all_succeeded()
        .at_least_fetched(3)
        .exactly_waited(0)
        .exactly_replayed(0))
}

/// The token service is down when the token is due, and is back before the token expires.
async fn outage(world: &World, name: Name) -> Result<Phase, BoxError> {
    let summary = "the token service answers 503 for some seconds, 200 calls a second";
    world.tokens.set_lifetime(Duration::from_secs(9));
    // An early refresh survives a longer outage. By default this token would be due for about its
    // last second. With this policy it is due for nearly five.
    let policy = RefreshPolicy::builder().due_share(0.7).due_jitter(0.0).build()?;
    let mut scene = Scene::open(world, name, summary, policy)?;
    scene.warm_up().await?;

    world.tokens.set_down(true);
    scene.tell("the token service is down; the token is valid");
    let refused = world.tokens.counts().refused;
    let newest_token = world.api.counts().newest_token;
    let end = async {
        world.tokens.reached(|counts| counts.refused > refused).await;
        scene.tell("the token is due, and the token service refuses its refresh");
        // One flight makes three attempts. The fourth is of the next flight, after a cooldown.
        world.tokens.reached(|counts| counts.refused > refused + 3).await;
        world.tokens.set_down(false);
        scene.tell("four attempts have failed; the token service is back");
        world.api.reached(|counts| counts.newest_token > newest_token).await;
        scene.tell("the API accepts a call with a new token");
    };
    let outcomes = scene.load.steadily(EVERY, end).await?;
    scene.settle().await;
    Ok(scene
        .close(outcomes)
        .all_succeeded()
        .exactly_fetched(1)
        .exactly_waited(0)
        .exactly_replayed(0))
}
