//! The layer among tower's own: `LoadShed`, `Timeout`, `Buffer`, `Retry`, `ConcurrencyLimit`.
//!
//! From the caller to the wire, with the reason for each place:
//!
//! 1. `LoadShed` first: it sheds load when the queue below is full. Below the layer it would shed a
//!    replay for which the cache has just fetched a token.
//! 2. `Timeout` for the whole call, including the wait for a token and a replay. The fetch
//!    continues after a timeout, for the next caller.
//! 3. `Buffer` above the layer: one queue, and a service that is `Clone` whatever is below it.
//! 4. `Retry` above the layer, so that each attempt gets the current token. It must
//!    not retry a 401 (the layer has sent that request again) or a `TokenError` (the cache retries
//!    fetches, and then cools down).
//! 5. `BearerAuthLayer`.
//! 6. `ConcurrencyLimit` below the layer: a call holds a permit while it is on the wire, not while
//!    a request waits for its token. So the token transport may share the limit, even a limit of
//!    one. Above the layer, the calls that wait for a token would keep the cache from fetching it.
//! 7. `Timeout` for one call on the wire. There are two such calls if there is a replay.
//!
//! ```sh
//! cargo run --example stack_layer_order
//! ```

mod loopback;

use std::{future, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{ServiceBuilder, ServiceExt, retry::Policy};
use tower_bearer::{BearerAuthLayer, BoxError, oauth2::TokenEndpoint};

/// Retries server errors, at most this many times.
#[derive(Clone)]
struct ServerErrors(usize);

impl<ResBody> Policy<Request<Full<Bytes>>, Response<ResBody>, BoxError> for ServerErrors {
    type Future = future::Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Full<Bytes>>,
        outcome: &mut Result<Response<ResBody>, BoxError>,
    ) -> Option<Self::Future> {
        let failed = outcome.as_ref().is_ok_and(|response| response.status().is_server_error());
        self.0 = self.0.checked_sub(usize::from(failed))?;
        failed.then(|| future::ready(()))
    }

    fn clone_request(&mut self, request: &Request<Full<Bytes>>) -> Option<Request<Full<Bytes>>> {
        Some(request.clone())
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let tokens = loopback::Tokens::default();
    let token_origin = loopback::serve(loopback::token_service(&tokens)).await?;
    let api = loopback::serve(loopback::protected_api(&tokens)).await?;

    let wire = ServiceBuilder::new()
        .concurrency_limit(1)
        .timeout(Duration::from_secs(10))
        .service(Client::builder(TokioExecutor::new()).build_http());
    let endpoint = TokenEndpoint::builder(format!("{token_origin}/token"))
        .client_id("my-app")
        .client_secret("s3cr3t")
        .transport(wire.clone())
        .build()?;
    let stack = ServiceBuilder::new()
        .load_shed()
        .timeout(Duration::from_secs(30))
        .buffer(64)
        .retry(ServerErrors(2))
        .layer(BearerAuthLayer::new(endpoint).origin(&api)?)
        .service(wire);

    for round in ["a cold start", "a revocation"] {
        let calls = (0..20).map(|n| {
            let request = Request::get(format!("{api}/{n}")).body(Full::default());
            let stack = stack.clone();
            async move { stack.oneshot(request?).await }
        });
        for response in futures_util::future::try_join_all(calls).await? {
            assert_eq!(response.status(), 200);
        }
        println!("{round}: 20 calls at once over one permit, {} fetched so far", tokens.issued());
        tokens.revoke();
    }
    Ok(())
}
