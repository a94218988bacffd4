//! Token endpoints over real connections, with every way to send a secret and every kind of answer.

use std::{
    fmt::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::{IntoResponse, Redirect, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{net::TcpListener, task::JoinSet};
use tower_bearer::{
    AccessToken, Reason, Rejection, Secret, Subject, TokenCache, TokenKey, TokenRequest,
    oauth2::{
        BodyFormat, ClientAssertion, ClientAuth, ReqwestService, TokenEndpoint,
        TokenEndpointBuilder, TokenExchange,
    },
};

use crate::{
    ACCESS, ACTOR, API_KEY, CLIENT_SECRET, GIVEN, HEADER_KEY, KEY, NEW_REFRESH, REFRESH, SUBJECT,
    output::Output,
};

#[path = "../../examples/loopback/tls.rs"]
mod tls;

/// The secrets that the client made for its requests: signatures, and the values of Basic.
type Made = Arc<Mutex<Vec<(&'static str, Vec<u8>)>>>;

const KINDS: [&str; 14] = [
    "token", "form", "echo", "nested", "list", "words", "failure", "busy", "redirect", "page",
    "cut", "large", "broken", "never",
];

/// Echoes all that it was sent, in the way that the path says.
async fn answer(State(made): State<Made>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let body = String::from_utf8_lossy(&body).into_owned();
    let mut echo = format!("{body} ");
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        if let Some(basic) = value.strip_prefix("Basic ") {
            let decoded = String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap();
            write!(echo, "{decoded} ").unwrap();
            made.lock().unwrap().push(("the value of Basic", basic.as_bytes().to_vec()));
        }
        write!(echo, "{name}={value} ").unwrap();
    }
    let is_form = head.headers["content-type"] != "application/json";
    for (name, value) in url::form_urlencoded::parse(body.as_bytes()).filter(|_| is_form) {
        if name == "client_assertion" && value.matches('.').count() == 2 {
            let (_, signature) = value.rsplit_once('.').unwrap();
            made.lock().unwrap().push(("a signature", signature.as_bytes().to_vec()));
        }
        write!(echo, "{name}={value} ").unwrap();
    }
    let json = |value: serde_json::Value| value.to_string();
    let token = json(serde_json::json!({
        "access_token": ACCESS, "refresh_token": NEW_REFRESH, "expires_in": 3600, "scope": "a",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    }));
    match head.uri.path().trim_matches('/') {
        "token" => token.into_response(),
        "form" => {
            let form = |text: &str| {
                url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
            };
            format!("access_token={}&refresh_token={}", form(ACCESS), form(NEW_REFRESH))
                .into_response()
        }
        "echo" => {
            let said = serde_json::json!({"error": "invalid_client", "error_description": echo, "error_uri": echo});
            (StatusCode::BAD_REQUEST, json(said)).into_response()
        }
        "nested" => {
            let said = serde_json::json!({"error": {"code": echo, "message": [echo]}, "claims": {"a": echo}});
            (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic")], json(said)).into_response()
        }
        "list" => {
            let said = serde_json::json!({"errors": [{"errorType": "x", "message": echo}]});
            (StatusCode::FORBIDDEN, json(said)).into_response()
        }
        "words" => echo.into_response(),
        "failure" => (StatusCode::INTERNAL_SERVER_ERROR, echo).into_response(),
        "busy" => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "600")], echo).into_response(),
        "redirect" => Redirect::temporary(&format!("/token?{}", body.replace(['\n', '\r'], "")))
            .into_response(),
        "page" => format!("<html>{echo}").into_response(),
        "cut" => token[..token.len() - 5].to_owned().into_response(),
        "large" => token.repeat(10_000).into_response(),
        "broken" => {
            let begun = stream::iter([Ok(Bytes::from(token))]);
            let end = stream::iter([Err(std::io::Error::other("gone"))]);
            Body::from_stream(begun.chain(end)).into_response()
        }
        _ => std::future::pending().await,
    }
}

fn ways(url: &str) -> Vec<TokenEndpointBuilder> {
    let endpoint = || TokenEndpoint::builder(url).client_id("me").name("walked");
    let client = || endpoint().client_secret(CLIENT_SECRET);
    let asserting = |assertion: ClientAssertion| {
        endpoint().client_assertion(assertion.issuer("https://auth.example.com"))
    };
    let exchange = || TokenExchange::new().actor_token(ACTOR);
    vec![
        client(),
        client().client_auth(ClientAuth::BasicRaw),
        client().client_auth(ClientAuth::Body),
        client().client_auth(ClientAuth::Body).body_format(BodyFormat::Json),
        endpoint().secret_param("apikey", API_KEY),
        endpoint().header("x-key", Secret::new(HEADER_KEY)),
        asserting(ClientAssertion::private_key(KEY)),
        asserting(ClientAssertion::client_secret(CLIENT_SECRET)),
        endpoint().client_assertion(ClientAssertion::token(GIVEN)),
        client().refresh_token(REFRESH).on_new_refresh_token(async |_| {}),
        endpoint().jwt_bearer(GIVEN),
        client().token_exchange(exchange()),
        client().jwt_bearer_on_behalf_of(),
        client().token_exchange(exchange().subject_token(SUBJECT)),
    ]
}

async fn fetch(output: &Output, builder: TokenEndpointBuilder) {
    output.debug(&builder);
    let endpoint = match builder.build() {
        Ok(endpoint) => endpoint,
        Err(error) => return output.error(&error),
    };
    output.debug(&endpoint);
    if endpoint.takes_subject() {
        let subject = Subject::new(AccessToken::new(SUBJECT).unwrap());
        let key = TokenKey::new().scope("a").on_behalf_of(subject);
        let request = TokenRequest::new(Reason::First).with_key(key);
        output.debug(&request);
        match endpoint.fetch(request).await {
            Ok(token) => output.debug(token),
            Err(error) => output.error(&error),
        }
        return;
    }
    let cache = TokenCache::new(endpoint);
    match cache.get().await {
        Ok(token) => {
            output.debug(&token);
            output.debug(Rejection::new(token.clone()));
            if let Err(error) = cache.renew(Rejection::new(token)).await {
                output.error(&error);
            }
        }
        Err(error) => output.error(&error),
    }
    output.debug((&cache, cache.status()));
    output.say(cache.status());
    output.say(serde_json::to_string(&cache.status()).unwrap());
}

/// Returns the secrets that were made on the way.
pub(crate) async fn walk(output: &Output) -> Vec<(&'static str, Vec<u8>)> {
    let made = Made::default();
    let router = Router::new().fallback(answer).with_state(made.clone());
    let router = router.layer(tower_http::trace::TraceLayer::new_for_http());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router.clone()).into_future());
    let (secure, authority) = tls::serve(router).await.unwrap();
    let h2: Client<_, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(true).build_http();

    let mut fetches = JoinSet::new();
    for (at, kind) in KINDS.iter().enumerate() {
        // Each way with each of the first, which say most; the others with some.
        for way in (0..ways(&plain).len()).filter(|way| at < 5 || (at + way) % 5 == 0) {
            let builder = |origin: &str| {
                // As long as it takes, but where nothing comes.
                let limit = if *kind == "never" { 50 } else { 30_000 };
                let builder = ways(&format!("{origin}/{kind}")).swap_remove(way);
                builder.timeout(Duration::from_millis(limit))
            };
            // By HTTP/2, by HTTP/1.1, and by the ready-made transport over TLS.
            let builder = match (at + way) % 3 {
                0 => builder(&plain).transport(h2.clone()),
                1 => builder(&plain).transport(ReqwestService::default()),
                _ => builder(&secure).root_certificate(authority.pem()),
            };
            let output = output.clone();
            fetches.spawn(async move { fetch(&output, builder).await });
        }
    }
    // An untrusted certificate, a port without a server, and endpoints that cannot be built.
    for url in [&*secure, "https://127.0.0.1:1", "http://auth.example.com", "https://u:p@a.example"]
    {
        let twice = ways(url).into_iter().map(|way| way.param("client_secret", "x"));
        for builder in ways(url).into_iter().chain(twice) {
            let output = output.clone();
            fetches.spawn(async move { fetch(&output, builder).await });
        }
    }
    fetches.join_all().await;
    let made = made.lock().unwrap();
    made.clone()
}
