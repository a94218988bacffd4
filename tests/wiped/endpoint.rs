//! The way through a token endpoint and its transport, whatever the service answers.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io::{Read, Write},
    net::TcpListener,
    pin::Pin,
    task::{Context, Poll},
    thread::{self, JoinHandle},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::time::timeout;
use tower_bearer::{
    AccessToken, BoxError, Reason, Rejection, Secret, Subject, TokenCache, TokenKey, TokenRequest,
    oauth2::{
        BodyFormat, ClientAssertion, ClientAuth, ReqwestService, Signer, SigningAlgorithm,
        TokenEndpoint, TokenEndpointBuilder, TokenExchange, providers,
    },
};

use super::{
    ALONE,
    inspector::{leaks, look_for},
};

// Each begins and ends with what is nowhere else; in between is what has to be escaped.
const CLIENT_SECRET: &str = "Zq4vT8mKx2pW &%\"\\/é+ rB7nL3cYd9fH";
const API_KEY: &str = "Uj5wE1sQo6gA &%\"\\/+= kN8hV2zXe4tM";
const HEADER_KEY: &str = "Cy3rP7bFi9lD &%\"\\/+= aS6uJ1wGq5nO";
const ASSERTION: &str = "eyJ0.e30.Hx8kR2vTm5zBq7wLn4cPd1sGf6yJ";
const SIGNATURE: &[u8] = b"Wd6tN9xKr3vQ(a signature of a KMS)b6Mf1pHs8yL";
const SUBJECT: &str = "Lg2fX5nVb8kC/+~=.eW9mQ4tRj7yS";
const ACTOR: &str = "Ot1dM4hZc7wP &%\"\\/+= iK6vB9xFs2uG";
const ACCESS: &str = "Ps7jY3qNw6xE/+~=.oT5bH8mVd1cZ";
const REFRESH: &str = "Ra4gU9kLf2vX &%\"\\/+= hC7pM6nWt3zD";
const NEW_REFRESH: &str = "Sb8eI5wQy1jT &%\"\\/+= lG4xN9vKo2fR";

/// What is looked for, with a name for it.
type Sought = (&'static str, &'static [u8]);

const CLIENT: Sought = ("the client's secret", CLIENT_SECRET.as_bytes());
const KEY: Sought = ("the API key", API_KEY.as_bytes());
const HEADER: Sought = ("the key in a header", HEADER_KEY.as_bytes());
const GIVEN: Sought = ("the assertion", ASSERTION.as_bytes());
const SIGNED: Sought = ("the signature", SIGNATURE);
const USER: Sought = ("the subject's token", SUBJECT.as_bytes());
const ACTING: Sought = ("the actor's token", ACTOR.as_bytes());
const REFRESHED: Sought = ("the refresh token", REFRESH.as_bytes());
/// What comes, in whichever way it was asked for.
const TOKENS: [Sought; 2] =
    [("the access token", ACCESS.as_bytes()), ("the new refresh token", NEW_REFRESH.as_bytes())];
const SENT: [Sought; 8] = [CLIENT, KEY, HEADER, GIVEN, SIGNED, USER, ACTING, REFRESHED];

/// A key in some cloud, with a signature that the inspector knows.
struct Kms;

impl Signer for Kms {
    fn algorithm(&self) -> SigningAlgorithm {
        SigningAlgorithm::Rs256
    }

    async fn sign(&self, _: &[u8]) -> Result<Vec<u8>, BoxError> {
        Ok(SIGNATURE.to_vec())
    }
}

/// Read anew each time, into memory that the endpoint has to wipe.
fn secret(text: &'static str) -> Secret {
    Secret::from_fn(async move || Ok(text.to_owned()))
}

type Way = (&'static str, TokenEndpointBuilder, Vec<Sought>);

/// Every way in which secrets are sent to a service at that URL, and which they are.
fn ways(url: &str) -> Vec<Way> {
    let endpoint = || TokenEndpoint::builder(url).client_id("me");
    let client = || endpoint().client_secret(secret(CLIENT_SECRET));
    let asserting = |assertion: ClientAssertion| {
        endpoint().client_assertion(assertion.issuer("https://auth.example.com"))
    };
    let token = ClientAssertion::token(secret(ASSERTION));
    let by_secret = ClientAssertion::client_secret(secret(CLIENT_SECRET));
    let exchange = || TokenExchange::new().actor_token(secret(ACTOR));
    let in_json = |builder: TokenEndpointBuilder| builder.body_format(BodyFormat::Json);
    vec![
        ("Basic", client(), vec![CLIENT]),
        ("a fixed secret", endpoint().client_secret(CLIENT_SECRET), vec![CLIENT]),
        ("raw Basic", client().client_auth(ClientAuth::BasicRaw), vec![CLIENT]),
        ("a form", client().client_auth(ClientAuth::Body), vec![CLIENT]),
        ("JSON", in_json(client().client_auth(ClientAuth::Body)), vec![CLIENT]),
        ("an API key", providers::ibm_cloud(secret(API_KEY)).url(url), vec![KEY]),
        ("an API key in JSON", in_json(endpoint().secret_param("key", secret(API_KEY))), vec![KEY]),
        ("a header", endpoint().header("x-key", secret(HEADER_KEY)), vec![HEADER]),
        ("a signer", asserting(ClientAssertion::signer(Kms)), vec![SIGNED]),
        ("an assertion", endpoint().client_assertion(token), vec![GIVEN]),
        ("an assertion by a secret", asserting(by_secret), vec![CLIENT]),
        (
            "a refresh token",
            client().refresh_token(secret(REFRESH)).on_new_refresh_token(async |_| {}),
            vec![CLIENT, REFRESHED],
        ),
        ("a grant", endpoint().jwt_bearer(secret(ASSERTION)), vec![GIVEN]),
        ("a user's token", client().token_exchange(exchange()), vec![CLIENT, USER, ACTING]),
        (
            "the same in JSON",
            in_json(client().token_exchange(exchange())),
            vec![CLIENT, USER, ACTING],
        ),
        ("a user's JWT", client().jwt_bearer_on_behalf_of(), vec![CLIENT, USER]),
        (
            "a fixed subject",
            client().token_exchange(exchange().subject_token(secret(SUBJECT))),
            vec![CLIENT, USER, ACTING],
        ),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Body {
    /// At once, of a length that is known.
    Whole(&'static str),
    /// In frames of seven bytes, of a length that is not.
    Pieces(&'static str),
    /// It breaks off, with these words.
    Broken(&'static str, &'static str),
    /// Without an end.
    Endless(&'static str),
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Said(u16, Body),
    Failed(&'static str),
    Never,
}

/// Nothing of an answer is ever given back, because somebody else made it.
fn forever(text: String) -> &'static str {
    text.leak()
}

/// Every kind of answer, with all that it may say of secrets.
fn answers() -> Vec<(&'static str, Answer)> {
    let mut all = String::new();
    for (name, secret) in SENT {
        // It is sent as a part of an assertion.
        let signed = (name == SIGNED.0).then(|| BASE64_URL_SAFE_NO_PAD.encode(secret));
        all += signed.as_deref().unwrap_or(std::str::from_utf8(secret).unwrap());
        all += " and ";
    }
    let echo = forever(
        serde_json::json!({"error": "invalid_client", "error_description": &all}).to_string(),
    );
    let nested =
        serde_json::json!({"error": {"code": &all, "message": &all}, "claims": {"a": &all}});
    let listed = serde_json::json!({"errors": [{"errorType": "a", "message": &all, "b": [&all]}]});
    let stray = serde_json::json!({"access_token": {"a": ACCESS}, "scope": [&all], "x": &all});
    let good = serde_json::json!({
        "access_token": ACCESS, "token_type": "Bearer", "expires_in": 3600, "scope": "a b",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "refresh_token": NEW_REFRESH,
    });
    let good = forever(good.to_string());
    let escaped = |text: &str| {
        let escape = |all: String, c| all + &format!("\\u{:04x}", u32::from(c));
        text.chars().fold(String::new(), escape)
    };
    let every = format!(
        r#"{{"access_token":"{}","refresh_token":"{}","expires_in":3600}}"#,
        escaped(ACCESS),
        escaped(NEW_REFRESH),
    );
    let php = forever(good.replace('/', "\\/"));
    let form =
        |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let form =
        format!("expires_in=60&access_token={}&refresh_token={}", form(ACCESS), form(NEW_REFRESH));
    let words = forever(format!("with {all} it went wrong"));
    vec![
        ("a token", Answer::Said(200, Body::Whole(good))),
        ("a token in pieces", Answer::Said(200, Body::Pieces(good))),
        ("a token with escaped slashes", Answer::Said(200, Body::Whole(php))),
        ("a token that is escaped", Answer::Said(200, Body::Whole(forever(every)))),
        ("a form", Answer::Said(200, Body::Whole(forever(form)))),
        ("a token of another type", Answer::Said(200, Body::Whole(forever(stray.to_string())))),
        ("an error with echoes", Answer::Said(400, Body::Whole(echo))),
        ("an error deep inside", Answer::Said(401, Body::Whole(forever(nested.to_string())))),
        ("a list of errors", Answer::Said(400, Body::Whole(forever(listed.to_string())))),
        ("words", Answer::Said(500, Body::Whole(words))),
        ("words and success", Answer::Said(200, Body::Whole(words))),
        ("broken JSON", Answer::Said(200, Body::Whole(&echo[..echo.len() - 1]))),
        ("a redirect", Answer::Said(307, Body::Whole(words))),
        ("what breaks off", Answer::Said(200, Body::Broken(good, words))),
        ("too much", Answer::Said(200, Body::Endless(forever(ACCESS.repeat(5000))))),
        ("no connection", Answer::Failed(words)),
        ("nothing", Answer::Never),
    ]
}

/// Answers in memory, and keeps nothing: `Scripted` keeps what it was sent.
#[derive(Clone)]
struct Service(Answer);

type AnyBody = UnsyncBoxBody<Bytes, BoxError>;
type Answering = Pin<Box<dyn Future<Output = Result<Response<AnyBody>, BoxError>> + Send>>;

impl tower::Service<Request<Full<Bytes>>> for Service {
    type Response = Response<AnyBody>;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Answering {
        let answer = self.0;
        Box::pin(async move {
            request.into_body().collect().await?;
            let (status, body) = match answer {
                Answer::Said(status, body) => (status, body),
                // The transport that makes such an error has to wipe it.
                Answer::Failed(words) => return Err(Static(words).into()),
                Answer::Never => std::future::pending().await,
            };
            let data = |bytes: &'static [u8]| Ok(Frame::data(Bytes::from_static(bytes)));
            let body = match body {
                Body::Whole(text) => {
                    Full::from(text).map_err(|never: Infallible| match never {}).boxed_unsync()
                }
                Body::Pieces(text) => {
                    StreamBody::new(stream::iter(text.as_bytes().chunks(7).map(data)))
                        .boxed_unsync()
                }
                Body::Broken(text, words) => {
                    let end = stream::iter([Err(BoxError::from(Static(words)))]);
                    let begun = stream::iter(text.as_bytes()[..text.len() - 9].chunks(7).map(data));
                    StreamBody::new(begun.chain(end)).boxed_unsync()
                }
                Body::Endless(text) => {
                    let same = stream::repeat_with(move || data(text.as_bytes()));
                    StreamBody::new(same).boxed_unsync()
                }
            };
            Ok(Response::builder().status(status).body(body)?)
        })
    }
}

/// An error in words that are never given back.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Static(&'static str);

/// A fetch, and what a cache makes of a few, on behalf of a user.
async fn walk(endpoint: TokenEndpoint) {
    let for_user = endpoint.takes_subject();
    let subject = || Subject::new(AccessToken::new(SUBJECT).unwrap());
    let key = || TokenKey::new().scope("a").on_behalf_of(subject());
    let request = TokenRequest::new(Reason::First);
    let request = if for_user { request.with_key(key()) } else { request };
    let fetched = endpoint.fetch(request).await;
    if let Err(error) = fetched {
        let _ = format!("{error} {error:?}");
    }
    if for_user {
        let keyed = tower_bearer::KeyedTokenCache::builder(endpoint).build().unwrap();
        let _ = keyed.get(&key()).await;
        keyed.forget_subject(&subject());
    } else {
        let cache = TokenCache::new(endpoint);
        if let Ok(token) = cache.get().await {
            let _ = cache.renew(Rejection::new(token)).await;
        }
        let _ = cache.get().await;
    }
    // The tasks of the last flight and of the hook end too.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_endpoint_wipes_what_it_sent_and_what_it_got_whatever_the_answer() {
    let _alone = ALONE.lock().await;
    let mut left = Vec::new();
    for (what, answer) in answers() {
        look_for([CLIENT]);
        for (way, builder, sent) in ways("https://auth.example.com/token") {
            look_for(sent.into_iter().chain(TOKENS));
            let builder = builder.timeout(Duration::from_secs(5)).transport(Service(answer));
            walk(builder.build().unwrap()).await;
            left.extend(leaks().into_iter().map(|leak| (way, what, leak)));
        }
        look_for([]);
    }
    assert!(left.is_empty(), "{left:#?}");
}

/// Answers one request from memory that is never given back.
fn serve(listener: TcpListener, answer: &'static [u8]) -> JoinHandle<()> {
    thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        // On the stack, where the inspector does not look.
        let mut request = [0; 8192];
        let mut length = 0;
        while !is_whole(&request[..length]) {
            length += connection.read(&mut request[length..]).unwrap();
        }
        connection.write_all(answer).unwrap();
    })
}

fn is_whole(request: &[u8]) -> bool {
    let Some(head) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return false;
    };
    let lines = request[..head].split(|byte| *byte == b'\n');
    let mut lengths = lines.filter_map(|line| line.strip_prefix(b"content-length: "));
    let length = std::str::from_utf8(lengths.next().unwrap()).unwrap().trim().parse::<usize>();
    request.len() >= head + 4 + length.unwrap()
}

/// What hyper writes into and reads into is its own, and it does not wipe that.
#[tokio::test]
async fn over_a_socket_only_the_buffers_of_hyper_are_left_with_a_secret() {
    let _alone = ALONE.lock().await;
    look_for([]);
    let mut owners = BTreeMap::new();
    let mut ours = Vec::new();
    for (what, answer) in answers() {
        let Answer::Said(status, Body::Whole(text)) = answer else { continue };
        let head = format!("HTTP/1.1 {status} A\r\ncontent-length: {}\r\n", text.len());
        let response = forever(format!("{head}connection: close\r\n\r\n{text}")).as_bytes();
        let service = ReqwestService::default();
        for (way, builder, sent) in ways("http://127.0.0.1/") {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/token", listener.local_addr().unwrap());
            let server = serve(listener, response);
            look_for(sent.into_iter().chain(TOKENS));
            let endpoint = builder.url(url).transport(service.clone()).build().unwrap();
            let subject = Subject::new(AccessToken::new(SUBJECT).unwrap());
            let request = TokenRequest::new(Reason::First);
            let request = if endpoint.takes_subject() {
                request.with_key(TokenKey::new().on_behalf_of(subject))
            } else {
                request
            };
            drop(timeout(Duration::from_secs(30), endpoint.fetch(request)).await.unwrap());
            drop(endpoint);
            server.join().unwrap();
            for leak in leaks() {
                *owners.entry(leak.owner.clone()).or_insert(0) += 1;
                if leak.owner != "hyper" {
                    ours.push((way, what, leak));
                }
            }
            look_for([]);
        }
    }
    assert!(ours.is_empty(), "{ours:#?}");
    assert!(owners["hyper"] > 0, "the documentation says so: {owners:?}");
}
