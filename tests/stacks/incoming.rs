//! Requests that are on behalf of nobody, over HTTP to an axum service: nothing is fetched for them
//! and nothing is sent.

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Request},
    routing::get,
};
use http::{HeaderValue, StatusCode, header::AUTHORIZATION};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::{Layer, ServiceExt};
use tower_bearer::{BearerAuth, BearerAuthLayer, Refused, Subject, TokenKey};

use crate::{app, keys::World, loopback, world::bounded};

/// What comes in place of one bearer token: the lines of `Authorization`.
fn of_nobody() -> Vec<Vec<HeaderValue>> {
    let long = format!("Bearer {}", "a".repeat(16 * 1024 + 1));
    let lines: [&[&[u8]]; 13] = [
        &[],
        &[b""],
        &[b"Bearer"],
        &[b"Bearer   "],
        &[b"Bearer \t"],
        &[b"Basic YW5uOnB3"],
        &[b"Bearerann"],
        &[b"Bearer ann\tbob"],
        &[b"Bearer ann bob"],
        &[b"Bearer ann, Bearer bob"],
        &[b"Bearer ann\xff"],
        &[b"Bearer ann", b"Bearer bob"],
        &[b"Bearer ann", b"Basic YW5uOnB3"],
    ];
    let value = |line: &[u8]| HeaderValue::from_bytes(line).unwrap();
    let all = lines.iter().map(|lines| lines.iter().map(|line| value(line)).collect());
    all.chain([vec![value(long.as_bytes())]]).collect()
}

const CHALLENGE: &str = r#"Bearer authorization_uri="https://login.example.com/oauth2/authorize""#;

/// The status, the challenge and the text of the answer to such a request.
async fn get_with(url: &str, lines: &[HeaderValue]) -> (StatusCode, String, String) {
    let mut request = reqwest::Client::new().get(url);
    for line in lines {
        request = request.header(AUTHORIZATION, line);
    }
    let response = bounded(request.send()).await.unwrap();
    let challenge = response.headers().get("www-authenticate");
    let challenge = challenge.map(|text| text.to_str().unwrap().to_owned()).unwrap_or_default();
    (response.status(), challenge, bounded(response.text()).await.unwrap())
}

fn nothing_happened(world: &World) {
    assert!(world.accounts.fetched().is_empty() && world.accounts.shown().is_empty());
}

#[tokio::test]
async fn a_request_without_a_single_bearer_token_gets_401_and_a_challenge() {
    let world = World::start().await;
    let service = loopback::serve(app::router(world.tokens.clone(), &world.api).unwrap());
    let service = service.await.unwrap();
    for lines in of_nobody() {
        let (status, challenge, text) = get_with(&format!("{service}/me"), &lines).await;
        assert_eq!(
            (status, &*challenge, &*text),
            (StatusCode::UNAUTHORIZED, CHALLENGE, ""),
            "{lines:?}"
        );
    }
    nothing_happened(&world);
    assert!(world.tokens.is_empty());
}

#[tokio::test]
async fn a_control_character_does_not_get_past_http() {
    let world = World::start().await;
    let service = loopback::serve(app::router(world.tokens.clone(), &world.api).unwrap());
    let service = service.await.unwrap();
    for byte in ["\0", "\x01", "\r", "\x7f"] {
        let mut connection =
            TcpStream::connect(service.trim_start_matches("http://")).await.unwrap();
        let request =
            format!("GET /me HTTP/1.1\r\nhost: a\r\nauthorization: Bearer a{byte}b\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        bounded(connection.read_exact(&mut answer)).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 400", "{byte:?}");
    }
    nothing_happened(&world);
}

// ===== A handler that does not look =====

type Api = BearerAuth<Client<HttpConnector, Body>, tower_bearer::NoReplay>;

/// Sends a request on behalf of the user, if there is one, and says how that was refused.
async fn careless(State((api, origin)): State<(Api, String)>, headers: HeaderMap) -> String {
    let key = match Subject::from_headers(&headers) {
        Ok(user) => TokenKey::new().on_behalf_of(user),
        Err(_) => TokenKey::new(),
    };
    let request = Request::get(format!("{origin}/me")).extension(key).body(Body::empty()).unwrap();
    match api.oneshot(request).await {
        Ok(response) => loopback::text(response).await.unwrap(),
        Err(error) if Refused::find_in(&*error) == Some(&Refused::NoSubject) => "nobody".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_handler_that_does_not_look_is_refused_by_the_layer() {
    let world = World::start().await;
    let layer = BearerAuthLayer::from_cache(&world.tokens).origin(&world.api).unwrap();
    let api: Api = layer
        .require_subject()
        .no_replay()
        .layer(Client::builder(TokioExecutor::new()).build_http());
    let router = Router::new().route("/", get(careless)).with_state((api, world.api.clone()));
    let service = loopback::serve(router).await.unwrap();
    for lines in of_nobody() {
        let (_, _, text) = get_with(&service, &lines).await;
        assert_eq!(text, "nobody", "{lines:?}");
    }
    nothing_happened(&world);

    let login = format!("Bearer {}", world.accounts.log_in("ann"));
    let (_, _, text) = get_with(&service, &[login.parse().unwrap()]).await;
    assert_eq!(text, "GET /me for ann");
}
