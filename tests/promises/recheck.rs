//! A request that has its token waits for the inner service: the token is checked again before the
//! request is sent.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tokio::{task::JoinHandle, time::Instant};
use tower::{BoxError, Layer, limit::ConcurrencyLimitLayer};
use tower_bearer::{Rejection, TokenCache};

use super::support::*;

type Sent = JoinHandle<Result<Response<Full<Bytes>>, BoxError>>;

/// A request that waits for the one permit of the inner service, and the token that it has.
struct Held {
    api: Api,
    cache: TokenCache,
    desk: Desk,
    request: Sent,
}

impl Held {
    /// Its token is `t1`, that was fetched for it.
    async fn first(lifetime: Duration) -> Self {
        let (source, mut desk) = manual();
        let (api, cache) = (Api::new(), cache(source));
        let limited = ConcurrencyLimitLayer::new(1).layer(api.clone());
        let stack = layer(&cache).layer(limited.clone());
        let request = tokio::spawn(async move { send(&stack, get("/held")).await });
        let flight = desk.next().await;

        api.close_gate();
        take_permit(limited).await;
        assert_eq!(api.waiting(), 1, "the permit is taken");
        flight.reply(Ok(token("t1").with_lifetime(lifetime)));
        settle().await;
        Self { api, cache, desk, request }
    }

    /// It is a replay: `t1` was rejected, its token is `t2`.
    async fn replay(lifetime: Duration) -> Self {
        let (source, mut desk) = manual();
        let (api, cache) = (Api::new(), cache(source));
        let limited = ConcurrencyLimitLayer::new(1).layer(api.clone());
        let stack = layer(&cache).layer(limited.clone());
        api.revoke("t1");
        api.close_gate();
        let request = tokio::spawn(async move { send(&stack, get("/held")).await });
        desk.next().await.answer("t1");
        settle().await;
        take_permit(limited).await;
        api.open_gate();
        api.close_gate();
        let renewal = desk.next().await;
        settle().await;
        assert_eq!(api.waiting(), 1, "the permit is taken");
        renewal.reply(Ok(token("t2").with_lifetime(lifetime)));
        settle().await;
        Self { api, cache, desk, request }
    }

    async fn pass(&self, time: Duration) {
        settle().await;
        tokio::time::advance(time).await;
        settle().await;
    }

    /// Somebody else asks for a token, and gets this one.
    async fn fetch(&mut self, secret: &str) {
        let cache = self.cache.clone();
        let caller = tokio::spawn(async move { cache.get().await });
        self.desk.next().await.reply(Ok(token(secret).with_lifetime(100 * S)));
        caller.await.unwrap().unwrap();
    }

    /// The permit is free, and the request goes; the tokens that the API saw of it.
    async fn go(self) -> Vec<String> {
        self.api.open_gate();
        let response = self.request.await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        self.api.tokens().into_iter().filter(|token| token != "-").collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_still_good_is_sent() {
    let held = Held::first(100 * S).await;
    held.pass(10 * S).await;
    assert_eq!(held.go().await, ["t1"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_meanwhile_is_not_sent() {
    let mut held = Held::first(100 * S).await;
    held.pass(101 * S).await;
    held.api.open_gate();
    held.desk.next().await.answer("t2");
    assert_eq!(held.go().await, ["t2"]);
}

#[tokio::test(start_paused = true)]
async fn a_newer_token_that_came_meanwhile_is_sent() {
    let mut held = Held::first(100 * S).await;
    held.pass(101 * S).await;
    held.fetch("t2").await;
    assert_eq!(held.go().await, ["t2"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_expired_on_arrival_serves_its_request_still() {
    let held = Held::first(Duration::ZERO).await;
    held.pass(10 * S).await;
    assert_eq!(held.go().await, ["t1"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_another_origin_rejects_meanwhile_is_sent_while_it_has_not_expired() {
    let mut held = Held::first(100 * S).await;
    held.cache.reject(Rejection::new(token("t1")));
    let renewal = held.desk.next().await;
    let start = Instant::now();
    assert_eq!(held.go().await, ["t1"]);
    assert_eq!(start.elapsed(), Duration::ZERO, "it waits for no renewal");
    drop(renewal);
}

#[tokio::test(start_paused = true)]
async fn a_replay_does_not_go_back_to_the_token_that_was_rejected() {
    let mut held = Held::replay(100 * S).await;
    held.pass(101 * S).await;
    held.fetch("t1").await;
    assert_eq!(held.go().await, ["t1", "t2"]);
}

#[tokio::test(start_paused = true)]
async fn a_replay_takes_a_newer_token_that_came_meanwhile() {
    let mut held = Held::replay(100 * S).await;
    held.pass(101 * S).await;
    held.fetch("t3").await;
    assert_eq!(held.go().await, ["t1", "t3"]);
}
