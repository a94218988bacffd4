//! The layer above and below tower-http's `FollowRedirect`.

use axum::{Router, extract::Path, response::Redirect, routing::get};
use http::{Response, StatusCode};
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{FinalUri, Refused, TokenCache, UnlistedOrigin};
use tower_http::follow_redirect::{FollowRedirectLayer, RequestUri};

use crate::{
    loopback::{self, Tokens},
    world::{World, bounded, client, token_url},
};

/// An API whose `/away` leads to another one, which wants other tokens.
struct Moved {
    world: World,
    others: Tokens,
    other: String,
}

async fn moved() -> Moved {
    let (tokens, others) = (Tokens::default(), Tokens::default());
    let other = loopback::serve(loopback::protected_api(&others)).await.unwrap();
    let target = other.clone();
    let away = get(move || async move { Redirect::temporary(&format!("{target}/there")) });
    let near = get(async |Path(name): Path<String>| Redirect::temporary(&format!("/{name}")));
    let api = Router::new().route("/away", away).route("/near/{name}", near);
    let api = api.merge(loopback::protected_api(&tokens));
    Moved { world: World::with_api(tokens, api).await, others, other }
}

fn with_final_uri<B>(mut response: Response<B>) -> Response<B> {
    if let Some(RequestUri(uri)) = response.extensions().get().cloned() {
        response.extensions_mut().insert(FinalUri(uri));
    }
    response
}

#[tokio::test]
async fn above_the_layer_a_hop_to_another_host_is_refused() {
    let Moved { world, others, other } = moved().await;
    let stack = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(world.layer())
        .service(client());
    let error = bounded(stack.oneshot(world.get("/away"))).await.unwrap_err();
    let refused = error.downcast_ref::<Refused>().unwrap();
    assert_eq!(*refused, Refused::NotNamed(other.parse().unwrap()));
    assert!(others.shown().is_empty());
}

#[tokio::test]
async fn above_the_layer_a_hop_to_another_host_is_sent_bare_if_that_is_set() {
    let Moved { world, others, .. } = moved().await;
    let stack = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(world.layer().unlisted_origins(UnlistedOrigin::SendBare))
        .service(client());
    let response = bounded(stack.oneshot(world.get("/away"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(others.shown(), ["none"]);
    assert_eq!(bounded(world.cache.get()).await.unwrap().secret(), "t1");
}

#[tokio::test]
async fn above_the_layer_a_hop_gets_the_token_of_the_origin_that_it_leads_to() {
    let Moved { world, others, other } = moved().await;
    // Its first token is another text than that of the API that is left.
    others.issue();
    let their = TokenCache::new(loopback::endpoint(&token_url(&others).await).unwrap());
    let stack = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(world.layer().route(other, their).unwrap())
        .service(client());
    let response = bounded(stack.oneshot(world.get("/away"))).await.unwrap();
    assert_eq!(loopback::text(response).await.unwrap(), "GET /there with t2: ");
    assert_eq!((world.tokens.issued(), others.shown()), (1, vec!["t2".to_owned()]));
}

#[tokio::test]
async fn above_the_layer_a_revocation_between_two_hops_is_healed() {
    let Moved { world, .. } = moved().await;
    world.cache.get().await.unwrap();
    world.tokens.revoke();
    let stack = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(world.layer())
        .service(client());
    let response = bounded(stack.oneshot(world.get("/near/here"))).await.unwrap();
    assert_eq!(loopback::text(response).await.unwrap(), "GET /here with t2: ");
    assert_eq!(world.tokens.shown(), ["t1", "t2"]);
}

#[tokio::test]
async fn below_the_layer_the_token_does_not_follow_and_another_hosts_401_is_no_rejection() {
    let Moved { world, others, .. } = moved().await;
    let stack = ServiceBuilder::new()
        .layer(world.layer())
        .map_response(with_final_uri)
        .layer(FollowRedirectLayer::new())
        .service(client());
    let response = bounded(stack.clone().oneshot(world.get("/away"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(others.shown(), ["none"]);
    assert_eq!(bounded(world.cache.get()).await.unwrap().secret(), "t1");

    // On the same host the token does follow, and a 401 there is a rejection.
    world.tokens.revoke();
    let response = bounded(stack.oneshot(world.get("/near/here"))).await.unwrap();
    assert_eq!(loopback::text(response).await.unwrap(), "GET /here with t2: ");
}
