//! What a service that acts on behalf of users answers to its callers, in the cases that the example
//! does not show.

use axum::Router;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{StatusCode, header::AUTHORIZATION};
use tower_bearer::{
    KeyedTokenCache,
    oauth2::{TokenEndpoint, TokenExchange},
};

use crate::{app, keys::World, loopback, scripted::Scripted, world::bounded};

/// The status and the challenge that a user gets from that service for `/me`.
async fn told(tokens: KeyedTokenCache, api: &str, login: &str) -> (StatusCode, String) {
    let service = loopback::serve(app::router(tokens, api).unwrap()).await.unwrap();
    let request = reqwest::Client::new().get(format!("{service}/me"));
    let request = request.header(AUTHORIZATION, format!("Bearer {login}"));
    let response = bounded(request.send()).await.unwrap();
    let challenge = response.headers().get("www-authenticate");
    let challenge = challenge.map(|text| text.to_str().unwrap().to_owned()).unwrap_or_default();
    (response.status(), challenge)
}

/// Tokens of a token service that refuses every exchange like this.
fn refusing(status: u16, error: &'static str) -> KeyedTokenCache {
    let service = Scripted::refusing(status, error);
    let endpoint = TokenEndpoint::builder("https://auth.example.com/token").client_id("my-app");
    let endpoint = endpoint.token_exchange(TokenExchange::new()).transport(service).build();
    KeyedTokenCache::builder(endpoint.unwrap()).build().unwrap()
}

#[tokio::test]
async fn a_login_that_has_expired_is_a_401_and_is_not_exchanged() {
    let world = World::start().await;
    let [header, claims] =
        [r#"{"alg":"none"}"#, r#"{"exp":1}"#].map(|it| URL_SAFE_NO_PAD.encode(it));
    let (status, challenge) =
        told(world.tokens.clone(), &world.api, &format!("{header}.{claims}.x")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(challenge.ends_with(r#", error="invalid_token""#), "{challenge}");
    assert!(world.accounts.fetched().is_empty() && world.accounts.shown().is_empty());
}

#[tokio::test]
async fn a_user_that_has_to_do_something_gets_a_challenge_without_claims_too() {
    let world = World::start().await;
    for error in ["login_required", "consent_required", "interaction_required"] {
        let (status, challenge) = told(refusing(400, error), &world.api, "ann").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        let expected = r#", error="insufficient_user_authentication""#;
        assert!(challenge.ends_with(expected), "{challenge}");
    }
}

#[tokio::test]
async fn what_no_user_can_mend_is_no_401() {
    let world = World::start().await;
    for (code, error) in [(401, "invalid_client"), (400, "invalid_scope"), (400, "invalid_target")]
    {
        let (status, challenge) = told(refusing(code, error), &world.api, "ann").await;
        assert_eq!((status, &*challenge), (StatusCode::SERVICE_UNAVAILABLE, ""), "{error}");
    }
    assert!(world.accounts.shown().is_empty());

    // An API that rejects fresh tokens, and one that is away.
    let rejects = Router::new().fallback(async || StatusCode::UNAUTHORIZED);
    let rejects = loopback::serve(rejects).await.unwrap();
    for api in [&*rejects, "http://127.0.0.1:1"] {
        let login = world.accounts.log_in("ann");
        let (status, challenge) = told(world.tokens.clone(), api, &login).await;
        assert_eq!((status, &*challenge), (StatusCode::BAD_GATEWAY, ""), "{api}");
    }
}
