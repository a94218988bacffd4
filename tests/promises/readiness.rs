//! Promise 20's neighbour: the token is put on when the request goes, not when it was had.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{BoxError, Layer, ServiceExt, limit::ConcurrencyLimitLayer};

use super::support::*;

/// A request whose token arrives while the one permit of the inner service is taken: it has
/// waited so long when the permit is free.
async fn waited_for_the_permit(
    time: Duration,
    api: &Api,
) -> Result<Response<Full<Bytes>>, BoxError> {
    let (source, mut desk) = manual();
    let limited = ConcurrencyLimitLayer::new(1).layer(api.clone());
    let stack = layer(&cache(source)).layer(limited.clone());
    let response = tokio::spawn(async move { send(&stack, get("/late")).await });
    let call = desk.next().await;

    api.close_gate();
    let taken: Request<Full<Bytes>> = get("/takes-the-permit");
    let taken = tokio::spawn(limited.oneshot(taken));
    settle().await;
    assert_eq!(api.waiting(), 1);
    call.reply(Ok(token("t1").with_lifetime(100 * S)));
    settle().await;
    tokio::time::advance(time).await;
    let renewed = tokio::spawn(async move {
        desk.next().await.reply(Ok(token("t2").with_lifetime(100 * S)));
        // It is there for as long as the cache may ask.
        std::future::pending::<()>().await;
        drop(desk);
    });
    api.open_gate();
    let response = response.await.expect("no panic");
    renewed.abort();
    taken.await.expect("no panic")?;
    response
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_while_the_request_waits_for_readiness_is_not_sent() {
    let api = Api::new();
    let response = waited_for_the_permit(101 * S, &api).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(api.tokens(), ["-", "t2"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_good_still_is_sent_after_the_wait() {
    let api = Api::new();
    let response = waited_for_the_permit(10 * S, &api).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(api.tokens(), ["-", "t1"]);
}
