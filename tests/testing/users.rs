//! Users' tokens, which the service exchanges and the API tells apart.

use http::{HeaderMap, HeaderValue, Request, StatusCode, header::AUTHORIZATION};
use tower::{Layer, ServiceExt};
use tower_bearer::{
    BearerAuthLayer, KeyedTokenCache, Refused, Subject, TokenError, TokenKey,
    oauth2::{
        EndpointError, ReqwestService, TokenEndpointBuilder, TokenExchange, TokenType, providers,
    },
    testing::{CLIENT_ID, CLIENT_SECRET, Dialect, Failure, World},
};

use super::support::{BASIC, FORM, Stack, bounded, fetch, post, world};

fn exchanging(world: &World) -> TokenEndpointBuilder {
    world.tokens().endpoint().token_exchange(TokenExchange::new())
}

/// The README's stack for users.
fn for_users(world: &World, endpoint: TokenEndpointBuilder) -> (Stack, KeyedTokenCache) {
    let tokens = KeyedTokenCache::builder(endpoint.build().unwrap()).build().unwrap();
    let layer = BearerAuthLayer::from_cache(&tokens).origin(world.api().origin()).unwrap();
    (layer.require_subject().layer(ReqwestService::default()), tokens)
}

fn subject(token: &str) -> Subject {
    let mut incoming = HeaderMap::new();
    let value = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
    incoming.insert(AUTHORIZATION, value);
    Subject::from_headers(&incoming).unwrap()
}

fn request(world: &World, user: &str) -> Request<String> {
    let key = TokenKey::new().scope("invoices:read").on_behalf_of(subject(user));
    Request::get(world.api().url("/v1/invoices")).extension(key).body(String::new()).unwrap()
}

/// The access token that the API got for a user, and the user that it was told.
async fn call(stack: &Stack, world: &World, user: &str) -> (String, String) {
    let response = bounded(stack.clone().oneshot(request(world, user))).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    (header("echo-token"), header("echo-subject"))
}

#[tokio::test]
async fn each_user_gets_a_token_and_the_api_says_whose_it_is() {
    let world = world().await;
    let (stack, tokens) = for_users(&world, exchanging(&world));
    for (user, token) in [("of-ann", "t-1"), ("of-bob", "t-2"), ("of-ann", "t-1")] {
        assert_eq!(call(&stack, &world, user).await, (token.to_owned(), user.to_owned()));
        assert_eq!(world.subject_of(token).as_deref(), Some(user));
    }
    assert_eq!(world.tokens().fetches(), 2);

    tokens.forget_subject(&subject("of-ann"));
    assert_eq!(call(&stack, &world, "of-ann").await.0, "t-3");
    assert_eq!(world.subject_of("t-3").as_deref(), Some("of-ann"));

    let nobodys = Request::get(world.api().url("/")).body(String::new()).unwrap();
    let error = bounded(stack.oneshot(nobodys)).await.unwrap_err();
    assert_eq!(Refused::find_in(&*error), Some(&Refused::NoSubject));
}

#[tokio::test]
async fn a_token_of_the_client_itself_is_nobodys() {
    let world = world().await;
    fetch(world.tokens().endpoint()).await.unwrap();
    assert_eq!((world.subject_of("t-1"), world.subject_of("t-2")), (None, None));
    let stack = super::support::stack(&world, world.tokens().endpoint());
    let (_, headers, _) = super::support::call(&stack, world.api().url("/"), "").await;
    assert!(headers.get("echo-subject").is_none());
}

#[tokio::test]
async fn one_user_fails_until_the_recovery_and_the_others_do_not() {
    let world = world().await;
    let (stack, tokens) = for_users(&world, exchanging(&world));
    world.tokens().fail_subject("of-bob", Failure::Status(503));
    world.tokens().fail_subject("of-bob", Failure::OAuth("invalid_grant"));
    let error = bounded(stack.clone().oneshot(request(&world, "of-bob"))).await.unwrap_err();
    let endpoint_error = EndpointError::find_in(&*error).unwrap();
    assert_eq!(endpoint_error.error(), Some("invalid_grant"));
    assert!(TokenError::find_in(&*error).unwrap().concerns_key_only());
    assert_eq!(call(&stack, &world, "of-ann").await.1, "of-ann");
    assert_eq!((world.tokens().fetches(), world.tokens().issued()), (2, 1));

    world.tokens().recover();
    tokens.forget_subject(&subject("of-bob"));
    assert_eq!(call(&stack, &world, "of-bob").await.1, "of-bob");
}

#[tokio::test]
async fn the_failures_of_all_requests_come_before_that_of_a_user() {
    let world = world().await;
    let (stack, _) = for_users(&world, exchanging(&world));
    world.tokens().fail_subject("of-bob", Failure::OAuth("invalid_grant"));
    world.tokens().fail_next(1, Failure::OAuth("invalid_scope"));
    let error = bounded(stack.oneshot(request(&world, "of-bob"))).await.unwrap_err();
    assert_eq!(EndpointError::find_in(&*error).unwrap().error(), Some("invalid_scope"));
}

#[tokio::test]
async fn jwt_bearer_entra_and_a_requested_type_are_served_too() {
    let world = world().await;
    let url = world.tokens().url(Dialect::Rfc6749);
    let entra = providers::entra_on_behalf_of("tenant", CLIENT_ID, CLIENT_SECRET);
    let jwt = TokenExchange::new().requested_token_type(TokenType::Jwt);
    for endpoint in [
        world.tokens().endpoint().jwt_bearer_on_behalf_of(),
        entra.url(url).scope("https://graph.example.com/.default"),
        world.tokens().endpoint().token_exchange(jwt),
    ] {
        let (stack, _) = for_users(&world, endpoint);
        assert_eq!(call(&stack, &world, "of-ann").await.1, "of-ann");
    }
    assert_eq!(world.tokens().issued(), 3);
}

#[tokio::test]
async fn an_exchange_is_answered_and_refused_as_its_rfc_has_it() {
    let world = world().await;
    let ask = async |params: &str| post(&world, "/token", &[FORM, BASIC], params).await;
    let exchange = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange";
    let of_type = "subject_token_type=urn:ietf:params:oauth:token-type:access_token";
    let (_, answer) = ask(&format!("{exchange}&subject_token=of-ann&{of_type}&scope=a")).await;
    assert_eq!((&answer["access_token"], &answer["scope"]), (&"t-1".into(), &"a".into()));
    assert_eq!(answer["issued_token_type"], TokenType::AccessToken.as_str());
    for lacking in [
        format!("{exchange}&{of_type}"),
        format!("{exchange}&subject_token=of-ann"),
        "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned(),
    ] {
        let (status, answer) = ask(&lacking).await;
        assert_eq!(status, "HTTP/1.1 400 Bad Request", "{lacking}");
        assert_eq!(answer["error"], "invalid_request", "{lacking}");
    }
    // The other dialects know nothing of it.
    let client = "client_id=my-app&client_secret=a+secret%2B100%25";
    let body = format!("{exchange}&subject_token=of-ann&{of_type}&{client}");
    let (_, answer) = post(&world, "/v1.0/endpoint/default/token", &[FORM], &body).await;
    assert_eq!(answer["error"], "unsupported_grant_type");
}
