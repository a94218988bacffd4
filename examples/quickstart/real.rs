//! Makes a few calls to a real API, with tokens of a real token service.

use tower_bearer::{
    BoxError, TokenCache,
    oauth2::{InvalidEndpoint, ReqwestService, TokenEndpoint},
};

use crate::{
    args::Target,
    load::{Load, Outcome},
    phase::{Phase, Story},
    report::Report,
    stack::stack,
};

/// The number of calls, first at once and then one after another. It is small because the API is
/// a real one.
const FEW: u64 = 5;

pub(crate) async fn run(target: &Target) -> Result<Report, BoxError> {
    let cache = TokenCache::new(endpoint(target)?);
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let client = ReqwestService::new(client);
    let stack = stack(cache.clone(), &target.api_origin.to_string(), client)?;
    let load = Load::get(stack, target.api_url.clone());
    let cast = vec![
        ("token service", target.token_url.clone()),
        ("protected API", target.api_url.to_string()),
        ("client stack", "TraceLayer, BearerAuthLayer, reqwest".to_owned()),
    ];
    let report = Report::begin("tower-bearer, with real services", cast);

    let mut phases = vec![cold_start(&load, &cache).await?];
    if phases.iter().all(Phase::is_good) {
        phases.push(warm(&load, &cache).await?);
    }
    Ok(Report {
        phases,
        fetches: "flights of the token cache",
        replays: "calls that the layer sent again after a 401",
        ..report
    })
}

async fn cold_start(load: &Load, cache: &TokenCache) -> Result<Phase, BoxError> {
    let story = Story::begin("cold start", &format!("{FEW} calls at once, and no token yet"));
    let outcomes = load.at_once(FEW).await?.outcomes().await;
    story.tell("all calls have been answered");
    let phase = phase("cold start", story, outcomes, cache.status().flights()).exactly_fetched(1);
    phase.print_checks();
    Ok(phase)
}

async fn warm(load: &Load, cache: &TokenCache) -> Result<Phase, BoxError> {
    let story = Story::begin("warm", &format!("{FEW} calls, one after another"));
    let flights = cache.status().flights();
    let mut outcomes = Vec::new();
    for _ in 0..FEW {
        outcomes.extend(load.at_once(1).await?.outcomes().await);
    }
    story.tell("all calls have been answered");
    let fetches = cache.status().flights() - flights;
    let phase = phase("warm", story, outcomes, fetches).exactly_waited(0);
    phase.print_checks();
    Ok(phase)
}

fn endpoint(target: &Target) -> Result<TokenEndpoint, InvalidEndpoint> {
    let endpoint = TokenEndpoint::builder(&target.token_url)
        .client_id(&target.client_id)
        .client_secret(target.client_secret.as_str());
    match &target.scope {
        Some(scope) => endpoint.scope(scope).build(),
        None => endpoint.build(),
    }
}

fn phase(name: &'static str, story: Story, outcomes: Vec<Outcome>, fetches: u64) -> Phase {
    let replays = outcomes.iter().map(|outcome| outcome.sends.saturating_sub(1)).sum();
    Phase::new(name, story, outcomes, fetches, replays).all_succeeded()
}
