//! A client with the real stack, which calls an API now and then.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::time::{sleep, timeout};
use tower::{Layer, ServiceExt};
use tower_bearer::{
    BearerAuthLayer, TokenCache, TokenError,
    oauth2::{ClientAuth, TokenEndpoint},
};

use crate::{World, net, now};

/// What became of one call.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) client: usize,
    pub(crate) api: &'static str,
    pub(crate) sent: Duration,
    /// `None`: the connection broke, or it took too long, or there was no token.
    pub(crate) status: Option<u16>,
    pub(crate) had_token_and_failed: bool,
}

pub(crate) fn name(nth: usize) -> String {
    format!("client{nth}")
}

pub(crate) async fn run(world: World, nth: usize) -> turmoil::Result {
    let endpoint = TokenEndpoint::builder("http://auth/token")
        .allow_plaintext()
        .client_id(name(nth))
        .client_secret("secret")
        .client_auth(ClientAuth::Body)
        .transport(net::client())
        .build()?;
    let cache = TokenCache::new(endpoint);
    let layer = BearerAuthLayer::from_cache(cache.clone())
        .allow_plaintext()
        .origin("http://orders")?
        .origin("http://billing")?;
    let stack = layer.layer(net::client());
    loop {
        sleep(Duration::from_millis(fastrand::u64(100..1000))).await;
        let api = if fastrand::bool() { "orders" } else { "billing" };
        let request = Request::get(format!("http://{api}/")).body(Full::<Bytes>::default())?;
        let (world, cache, sent) = (world.clone(), cache.clone(), now());
        let call = timeout(Duration::from_secs(45), stack.clone().oneshot(request));
        tokio::spawn(async move {
            let outcome = call.await;
            let has_none =
                matches!(&outcome, Ok(Err(error)) if TokenError::find_in(&**error).is_some());
            let had_token_and_failed = has_none && cache.current().is_some();
            let status = outcome.ok().and_then(Result::ok).map(|it| it.status().as_u16());
            let answered = Answered { client: nth, api, sent, status, had_token_and_failed };
            world.lock().answered.push(answered);
        });
    }
}
