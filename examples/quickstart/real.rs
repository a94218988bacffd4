//! A few calls to a real API, with tokens of a real token service.

use tower_bearer::{
    BoxError, Origin, TokenCache,
    oauth2::{InvalidEndpoint, ReqwestService, TokenEndpoint},
};

use crate::{
    args::Target,
    load::{Load, Outcome},
    report::{Phase, Story, print_table, print_verdict},
    stack::stack,
};

/// How many calls are made at once, and then one after another: few, for it is somebody's API.
const FEW: u64 = 5;

/// Makes the calls; whether everything happened that should have.
pub(crate) async fn run(target: &Target) -> Result<bool, BoxError> {
    let cache = TokenCache::new(endpoint(target)?);
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let origin = Origin::of(&target.api_url).ok_or("--api-url is no http(s) URL")?;
    let stack = stack(cache.clone(), &origin.to_string(), ReqwestService::new(client))?;
    let load = Load::get(stack, target.api_url.clone());
    println!("tower-bearer, with real services");
    println!("  token service  {}", target.token_url);
    println!("  protected API  {}", target.api_url);
    println!("  client stack   TraceLayer, BearerAuthLayer, reqwest");

    let story = Story::begin("cold start", &format!("{FEW} calls at once, and no token yet"));
    let outcomes = load.at_once(FEW).await?.outcomes().await;
    story.tell("every call has been answered");
    let fetches = cache.status().flights();
    let cold = phase("cold start", &outcomes, fetches).exactly_fetched(1);
    cold.print_checks();

    let story = Story::begin("warm", &format!("{FEW} calls, one after another"));
    let mut outcomes = Vec::new();
    for _ in 0..FEW {
        outcomes.extend(load.at_once(1).await?.outcomes().await);
    }
    story.tell("every call has been answered");
    let fetches = cache.status().flights() - fetches;
    let warm = phase("warm", &outcomes, fetches).exactly_waited(0);
    warm.print_checks();

    let phases = [cold, warm];
    print_table(
        &phases,
        "flights of the token cache",
        "calls that the client was handed once more, after a 401",
    );
    Ok(print_verdict(&phases))
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

fn phase(name: &'static str, outcomes: &[Outcome], fetches: u64) -> Phase {
    let replays = outcomes.iter().map(|outcome| outcome.sends.saturating_sub(1)).sum();
    Phase::new(name, outcomes, fetches, replays)
}
