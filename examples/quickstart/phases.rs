//! The demonstration: four things that happen to tokens, and what the calls notice of them.

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

/// How many calls are made where many are made at once.
const MANY: u64 = 1000;
/// How often a call is made where they are made steadily.
const EVERY: Duration = Duration::from_millis(5);
/// A phase that is not over by then has gone wrong.
const LIMIT: Duration = Duration::from_secs(20);

const HOUR: Duration = Duration::from_secs(3600);

type Name = &'static str;

/// Runs them all.
pub(crate) async fn run() -> Result<Report, BoxError> {
    let world = World::start(Duration::ZERO).await?;
    let report = Report::begin("tower-bearer, on this machine alone", cast(&world));
    let phases = vec![
        limited("cold start", |name| cold_start(&world, name)).await?,
        limited("revocation", |name| revocation(&world, name)).await?,
        limited("expiry", |name| expiry(&world, name)).await?,
        limited("outage", |name| outage(&world, name)).await?,
    ];
    Ok(Report { phases, ..report })
}

/// Who takes part.
fn cast(world: &World) -> Vec<(&'static str, String)> {
    let (tokens, api) = (&world.tokens.url, world.api.uri());
    let after = ANSWERS_AFTER.as_millis();
    vec![
        ("token service", format!("{tokens}, answers after {after} ms")),
        ("protected API", format!("{api}, says 401 to any token that is not valid")),
        ("client stack", "TraceLayer, BearerAuthLayer, hyper-util's client over HTTP/2".to_owned()),
    ]
}

async fn limited<F>(name: Name, phase: impl FnOnce(Name) -> F) -> Result<Phase, BoxError>
where
    F: Future<Output = Result<Phase, BoxError>>,
{
    let phase = timeout(LIMIT, phase(name)).await;
    let phase = phase.map_err(|_| format!("did not happen: {name}: an end in {LIMIT:?}"))??;
    phase.print_checks();
    Ok(phase)
}

/// Many calls at once, and no token yet.
async fn cold_start(world: &World, name: Name) -> Result<Phase, BoxError> {
    let plot = format!("{} calls at once, and no token yet", grouped(MANY));
    world.tokens.set_lifetime(HOUR);
    let scene = Scene::open(world, name, &plot, RefreshPolicy::default())?;

    // The token service answers when every call is there to wait for it.
    world.tokens.gate().close();
    let calls = scene.load.at_once(MANY).await?;
    scene.tell("every call has been made; now the token service answers");
    world.tokens.gate().open();
    let outcomes = calls.outcomes().await;
    scene.settle().await;
    scene.tell("every call has been answered");
    Ok(scene.close(outcomes).all_succeeded().exactly_fetched(1).exactly_waited(MANY))
}

/// A token that is revoked while many calls carry it.
async fn revocation(world: &World, name: Name) -> Result<Phase, BoxError> {
    let plot = format!("the token is revoked while {} calls are in flight", grouped(MANY));
    world.tokens.set_lifetime(HOUR);
    let mut scene = Scene::open(world, name, &plot, RefreshPolicy::default())?;
    scene.warm_up().await?;

    world.api.gate().close();
    let arrived = world.api.counts().arrived;
    let calls = scene.load.at_once(MANY).await?;
    world.api.reached(|counts| counts.arrived == arrived + MANY).await;
    scene.tell("every call has arrived, with a valid token; the API holds them");
    world.tokens.revoke_all();
    scene.tell("the token is revoked; the API lets go of the calls");
    world.api.gate().open();
    let outcomes = calls.outcomes().await;
    scene.settle().await;
    scene.tell("every call has been answered");
    Ok(scene.close(outcomes).all_succeeded().exactly_fetched(1).exactly_replayed(MANY))
}

/// Tokens that live for seconds, while calls are made all the time.
async fn expiry(world: &World, name: Name) -> Result<Phase, BoxError> {
    let plot = "tokens live for 4 s, and 200 calls are made every second";
    world.tokens.set_lifetime(Duration::from_secs(4));
    let mut scene = Scene::open(world, name, plot, RefreshPolicy::default())?;
    scene.warm_up().await?;

    let tell_tokens = async {
        loop {
            let issued = world.tokens.counts().issued;
            world.tokens.reached(|counts| counts.issued > issued).await;
            let calls = grouped(scene.load.calls());
            scene.tell(&format!("another token has been fetched, {calls} calls so far"));
        }
    };
    let end = timeout(Duration::from_secs(9), tell_tokens);
    let outcomes = scene.load.steadily(EVERY, end).await?;
    scene.settle().await;
    Ok(scene
        .close(outcomes)
        .all_succeeded()
        .at_least_fetched(3)
        .exactly_waited(0)
        .exactly_replayed(0))
}

/// A token service that is down when the token is due, and back before the token expires.
async fn outage(world: &World, name: Name) -> Result<Phase, BoxError> {
    let plot = "the token service answers 503 for some seconds, 200 calls are made every second";
    world.tokens.set_lifetime(Duration::from_secs(9));
    // Who refreshes early gets through a long outage. By default this token would be due for
    // about its last second; so it is for nearly five.
    let policy = RefreshPolicy::builder().due_share(0.7).due_jitter(0.0).build()?;
    let mut scene = Scene::open(world, name, plot, policy)?;
    scene.warm_up().await?;

    world.tokens.set_down(true);
    scene.tell("the token service is down; the token is valid");
    let refused = world.tokens.counts().refused;
    let newest_token = world.api.counts().newest_token;
    let end = async {
        world.tokens.reached(|counts| counts.refused > refused).await;
        scene.tell("the token is due, and its refresh is refused");
        // Three attempts are one flight; a fourth is another, after a cooldown.
        world.tokens.reached(|counts| counts.refused > refused + 3).await;
        world.tokens.set_down(false);
        scene.tell("four attempts were refused; the token service is back");
        world.api.reached(|counts| counts.newest_token > newest_token).await;
        scene.tell("a call with a fresh token is accepted");
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
