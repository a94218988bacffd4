//! Upstreams that are called on behalf of users: each request's bearer token is exchanged, and never
//! forwarded.

use axum::body::Body;
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header::AUTHORIZATION};

use crate::{
    loopback::{
        self,
        accounts::{self, Accounts, CLAIMS},
    },
    support::{Sidecar, run, send, text},
};

/// A token service that knows users, and an API, in front of which a sidecar is to stand.
struct World {
    accounts: Accounts,
    token_service: String,
    api: String,
}

impl World {
    async fn new() -> Self {
        let accounts = Accounts::default();
        let token_service = loopback::serve(accounts::token_service(&accounts)).await.unwrap();
        let api = loopback::serve(accounts::protected_api(&accounts)).await.unwrap();
        Self { accounts, token_service, api }
    }

    fn config(&self) -> String {
        format!(
            "listen = \"127.0.0.1:0\"\n[sources.users.oauth2]\nurl = \"{}/token\"\n\
             client_id = \"me\"\nclient_secret = {{ env = \"SIDECAR_TEST_SECRET\" }}\n\
             token_exchange = {{}}\n[upstreams.api]\npath = \"/api\"\nto = \"{}\"\n\
             source = \"users\"\non_behalf_of = true\n",
            self.token_service, self.api
        )
    }

    fn has_seen_no_login(&self) -> bool {
        self.accounts.shown().iter().all(|token| !token.starts_with("login"))
    }

    fn nothing_happened(&self) -> bool {
        self.accounts.fetched().is_empty() && self.accounts.shown().is_empty()
    }
}

/// The status, the headers and the text of the answer to a request with those lines of
/// `Authorization`.
async fn get_with(url: &str, lines: &[&[u8]]) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::get(url);
    for line in lines {
        request = request.header(AUTHORIZATION, HeaderValue::from_bytes(line).unwrap());
    }
    let response = send(request.body(Body::empty()).unwrap()).await;
    let headers = response.headers().clone();
    let (status, text) = text(response).await;
    (status, headers, text)
}

async fn get_as(url: &str, login: &str) -> (StatusCode, HeaderMap, String) {
    get_with(url, &[format!("Bearer {login}").as_bytes()]).await
}

#[tokio::test]
async fn two_users_at_once_get_each_their_own_token_and_the_upstream_never_sees_theirs() {
    let world = World::new().await;
    let sidecar = Sidecar::start(&world.config()).await;
    let logins = ["ann", "bob"].map(|user| (user, world.accounts.log_in(user)));
    let url = sidecar.url("/api/orders");
    for revocations in 0..2 {
        let calls = (0..40).map(async |n| {
            let (user, login) = &logins[n % 2];
            let (status, _, text) = get_as(&url, login).await;
            assert_eq!((status, text), (StatusCode::OK, format!("GET /orders for {user}")));
        });
        join_all(calls).await;
        let mut fetched = world.accounts.fetched();
        fetched.sort_unstable();
        let once_more = vec!["ann"; revocations + 1];
        assert_eq!(fetched, [once_more, vec!["bob"]].concat(), "bob's is good all the time");
        world.accounts.revoke("ann");
    }
    assert!(world.has_seen_no_login());
}

#[tokio::test]
async fn without_exactly_one_bearer_token_it_is_401_and_nothing_is_fetched_or_sent() {
    let world = World::new().await;
    let sidecar = Sidecar::start(&world.config()).await;
    let login = world.accounts.log_in("ann");
    let ann = format!("Bearer {login}");
    let url = sidecar.url("/api/orders");
    for lines in [
        &[][..],
        &[b"".as_slice()],
        &[b"Bearer"],
        &[b"Bearer  "],
        &[b"Basic YW5uOnB3"],
        &[b"Bearer a\tb"],
        &[b"Bearer a\xff"],
        &[ann.as_bytes(), ann.as_bytes()],
        &[ann.as_bytes(), b"Basic YW5uOnB3"],
    ] {
        let (status, headers, text) = get_with(&url, lines).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{lines:?}");
        assert_eq!(headers["www-authenticate"], "Bearer", "{lines:?}");
        assert!(text.starts_with("sidecar: `api` acts for users: the "), "{text}");
        assert!(!text.contains(&login), "{text}");
    }
    assert!(world.nothing_happened());
    sidecar.metric("sidecar_requests_total{upstream=\"api\",status=\"401\"} 9").await;
}

#[tokio::test]
async fn a_field_that_is_said_to_be_for_one_hop_is_the_users_token_all_the_same() {
    let world = World::new().await;
    let sidecar = Sidecar::start(&world.config()).await;
    let request = Request::get(sidecar.url("/api/orders"))
        .header(AUTHORIZATION, format!("bearer {}", world.accounts.log_in("ann")))
        .header("connection", "authorization")
        .body(Body::empty());
    let (status, said) = text(send(request.unwrap()).await).await;
    assert_eq!((status, &*said), (StatusCode::OK, "GET /orders for ann"));
    assert!(world.has_seen_no_login());
}

#[tokio::test]
async fn a_users_client_gets_a_challenge_for_an_invalid_login_and_for_claims() {
    let world = World::new().await;
    let sidecar = Sidecar::start(&world.config()).await;
    let url = sidecar.url("/api/orders");

    let (status, headers, text) = get_as(&url, "forged-by-somebody").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(headers["www-authenticate"], "Bearer error=\"invalid_token\"");
    assert!(text.contains("invalid_request") && !text.contains("forged"), "{text}");

    world.accounts.need_second_factor("eve");
    let (status, headers, _) = get_as(&url, &world.accounts.log_in("eve")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let claims = STANDARD.encode(CLAIMS);
    let expected = format!("Bearer error=\"insufficient_claims\", claims=\"{claims}\"");
    assert_eq!(headers["www-authenticate"], expected);
    assert!(world.nothing_happened(), "no token was issued");

    // Neither has any effect on others.
    let (status, _, text) = get_as(&url, &world.accounts.log_in("ann")).await;
    assert_eq!((status, &*text), (StatusCode::OK, "GET /orders for ann"));
    let proven = world.accounts.log_in_with_second_factor("eve");
    assert_eq!(get_as(&url, &proven).await.2, "GET /orders for eve");
}

#[tokio::test]
async fn a_challenge_of_the_upstream_is_passed_on() {
    let world = World::new().await;
    let sidecar = Sidecar::start(&world.config()).await;
    let ann = world.accounts.log_in("ann");
    let (status, headers, _) = get_as(&sidecar.url("/api/payments"), &ann).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(headers["www-authenticate"], accounts::STEP_UP);
    assert_eq!(world.accounts.fetched().len(), 1);
}

#[tokio::test]
async fn a_token_service_that_is_away_is_no_trouble_of_the_users() {
    let mut world = World::new().await;
    // No server listens there.
    world.token_service = "http://127.0.0.1:1".to_owned();
    let sidecar = Sidecar::start(&world.config()).await;
    let (status, headers, _) = get_as(&sidecar.url("/api/orders"), "ann").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(headers.contains_key("retry-after"), "{headers:?}");
    assert!(!headers.contains_key("www-authenticate"), "{headers:?}");
    assert!(world.nothing_happened());
}

#[tokio::test]
async fn it_is_ready_without_a_user_and_a_check_has_none_to_try() {
    let world = World::new().await;
    let sidecar = Sidecar::start(&world.config()).await;
    assert_eq!(sidecar.readiness(StatusCode::OK).await, "ready\n");
    let (code, out, err) = run(&world.config(), &["--check"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "users: skipped: it exchanges the tokens of users\n");
    assert!(world.nothing_happened());
}
