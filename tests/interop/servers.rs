//! The servers that `run` has started, and what they are told beside what is tested.

use std::{env, fmt::Display, time::Duration};

use reqwest::{Client, ClientBuilder, Response};
use serde_json::Value;
use tower_bearer::{
    AccessToken, Subject,
    oauth2::{TokenEndpoint, TokenEndpointBuilder},
};

/// What anything may take at most.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// What `run` has handed over: the URLs of the servers, or the path of a file.
pub(crate) fn setting(name: &str) -> String {
    let value = env::var(format!("INTEROP_{name}"));
    value.expect("the servers are there: start this by `tests/interop/run`")
}

/// A client for loopback.
pub(crate) fn http() -> ClientBuilder {
    Client::builder().no_proxy().timeout(BOUND)
}

/// The token endpoint, for that client.
pub(crate) fn endpoint(id: &str, secret: &str) -> TokenEndpointBuilder {
    endpoint_of(id).client_secret(secret)
}

/// The same without a secret.
pub(crate) fn endpoint_of(id: &str) -> TokenEndpointBuilder {
    TokenEndpoint::builder(format!("{}/token", setting("AUTH"))).client_id(id)
}

async fn post(url: String, form: &[(&str, &str)], basic: Option<&str>) -> Response {
    let form: Vec<_> = form.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut request = http().build().unwrap().post(url);
    if let Some(id) = basic {
        request = request.basic_auth(id, Some(secret_of(id)));
    }
    let request =
        request.header("content-type", "application/x-www-form-urlencoded").body(form.join("&"));
    request.send().await.unwrap()
}

/// The secret of a client whose name is no trial in itself.
pub(crate) fn secret_of(id: &str) -> String {
    format!("{id}-secret")
}

// ===== The authorization server =====

/// What it has seen of a client.
pub(crate) struct Seen {
    pub(crate) granted: u64,
    pub(crate) refused: Vec<String>,
    /// How the client said who it is.
    pub(crate) auth: Option<String>,
}

pub(crate) async fn seen(id: &str) -> Seen {
    let mut url = reqwest::Url::parse(&format!("{}/admin/seen", setting("AUTH"))).unwrap();
    url.query_pairs_mut().append_pair("client", id);
    let answer = http().build().unwrap().get(url).send().await.unwrap();
    let seen = json(answer).await;
    Seen {
        granted: seen["granted"].as_u64().unwrap(),
        refused: serde_json::from_value(seen["refused"].clone()).unwrap(),
        auth: seen["auth"].as_str().map(str::to_owned),
    }
}

/// Revokes a token as its client does (RFC 7009).
pub(crate) async fn revoke(token: &AccessToken, id: &str) {
    let url = format!("{}/token/revocation", setting("AUTH"));
    let answer = post(url, &[("token", token.secret())], Some(id)).await;
    assert!(answer.status().is_success(), "{answer:?}");
}

/// A refresh token for that client, as if a user had logged in.
pub(crate) async fn login(id: &str) -> String {
    let answer = json(admin(format!("login?client={id}")).await).await;
    answer["refresh_token"].as_str().unwrap().to_owned()
}

/// The token that a user's browser sends along.
pub(crate) async fn visit(user: &str) -> Subject {
    let answer = json(admin(format!("visit?user={user}")).await).await;
    let token = answer["access_token"].as_str().unwrap();
    Subject::new(AccessToken::new(token).unwrap())
}

/// Ends one access token, and nothing of its family.
pub(crate) async fn forget(token: &AccessToken) {
    admin(format!("forget?token={}", token.secret())).await;
}

/// Puts the clock of the server forward.
pub(crate) async fn set_clock_ahead(seconds: u32) {
    admin(format!("clock?ahead={seconds}")).await;
}

/// Has the next token request served, and its answer lost on the way.
pub(crate) async fn lose_next_answer() {
    admin("cut").await;
}

/// Exchanges a refresh token behind the back of whoever owns it; gives what the server says.
pub(crate) async fn exchange(refresh_token: &str, id: &str) -> Value {
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
    json(post(format!("{}/token", setting("AUTH")), &form, Some(id)).await).await
}

async fn admin(what: impl Display) -> Response {
    told(format!("{}/admin/{what}", setting("AUTH"))).await
}

// ===== The API's side =====

/// What the API answers that user at that path.
pub(crate) async fn present(token: &AccessToken, path: &str, user: &str) -> u16 {
    let request = http().build().unwrap().get(format!("{}{path}", setting("API")));
    let request = request.header("authorization", token.header_value()).header("x-user", user);
    request.send().await.unwrap().status().as_u16()
}

/// How many calls came with the token of another user, or for another API, than they said.
pub(crate) async fn strangers() -> u64 {
    let url = format!("{}/control/strangers", setting("API"));
    let answer = json(http().build().unwrap().get(url).send().await.unwrap()).await;
    answer["strangers"].as_u64().unwrap()
}

/// Makes the next calls of the API wait.
pub(crate) async fn hold(calls: usize) {
    control(format!("hold?count={calls}")).await;
}

/// Waits until all of those are there.
pub(crate) async fn held() {
    let url = format!("{}/control/held", setting("API"));
    let answer = http().build().unwrap().get(url).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

/// Lets them go on.
pub(crate) async fn release() {
    control("release").await;
}

/// Kills the authorization server, which forgets what it knew.
pub(crate) async fn kill() {
    control("kill").await;
}

/// Starts it again, at the same place.
pub(crate) async fn start() {
    control("start").await;
}

async fn control(what: impl Display) -> Response {
    told(format!("{}/control/{what}", setting("API"))).await
}

async fn told(url: String) -> Response {
    let answer = post(url, &[], None).await;
    assert!(answer.status().is_success(), "{answer:?}");
    answer
}

async fn json(answer: Response) -> Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}
