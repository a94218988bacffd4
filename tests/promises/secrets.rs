//! Promise 24, without the wiping of memory, which `tests/wiped` tests.

use tokio::time::advance;
use tower::Layer;
use tower_bearer::{AccessToken, Reason, Rejection, TokenError, TokenRequest};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn secrets_never_reach_the_log_nor_any_debug_or_display() {
    let log = Log::start();
    let mint = Mint::default();
    mint.always(token("hush-1").with_refresh_token("hush-2").with_lifetime(101 * S));
    let api = Api::new();
    let cache = cache(mint.clone());
    let auth = layer(&cache).origin("https://user.example").unwrap();
    let stack = auth.clone().layer(tower::ServiceBuilder::new().service(api.clone()));
    let mut shown = Vec::new();

    send(&stack, get("/")).await.unwrap();
    advance(85 * S).await;
    send(&stack, get("/")).await.unwrap();
    settle().await;
    mint.always(token("hush-3"));
    api.revoke("hush-1");
    send(&stack, get("/")).await.unwrap();
    mint.fail_with(TokenError::transient("down"));
    api.revoke("hush-3");
    send(&stack, get("/")).await.unwrap();
    let rejection = Rejection::new(token("hush-3"));
    shown.push(format!("{rejection:?} {:?}", cache.renew(rejection.clone()).await));
    let userinfo = http::Request::get("https://hush-4:hush-5@other.example/");
    let userinfo = userinfo.body(http_body_util::Full::default()).unwrap();
    let error = send(&stack, userinfo).await.unwrap_err();
    shown.push(format!("{error} {error:?} {auth:?} {cache:?} {:?}", cache.status()));
    let request = TokenRequest::new(Reason::Rejected).with_previous(token("hush-1"));
    shown.push(format!("{:?}", request.with_rejected(token("hush-3"))));
    shown.push(format!("{:?}", AccessToken::new("hush-6 and more")));

    let (log, shown) = (log.text(), shown.concat());
    assert!(log.contains("fetching an access token"), "something is logged: {log}");
    assert!(!log.contains("hush"), "{log}");
    assert!(!shown.contains("hush"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn the_header_on_the_wire_is_marked_as_sensitive() {
    let api = Api::new();
    let stack = layer(&cache(Mint::default())).layer(api.clone());
    send(&stack, get("/")).await.unwrap();
    let header = &api.seen()[0].parts.headers["authorization"];
    assert!(header.is_sensitive());
    assert_eq!(header, "Bearer t1");
}
