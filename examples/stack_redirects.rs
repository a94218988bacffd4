//! The layer and tower-http's `FollowRedirect`. In either order, the token does not go to another
//! host.
//!
//! - Put `FollowRedirect` *above* the layer: the layer then checks every hop like a new request. It
//!   refuses a hop to an origin that you did not name, or sends it without a token if you set that.
//!   A hop to an origin with a `.route` gets that origin's token.
//! - *Below* the layer, the policy of `FollowRedirect` removes the header on the way to another
//!   origin, and the layer sees only the last answer. The layer must not take the 401 of another
//!   host for a rejection of the token: `FinalUri` tells it which host answered.
//!
//! ```sh
//! cargo run --example stack_redirects
//! ```

mod loopback;

use axum::{Router, response::Redirect, routing::get};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{BearerAuthLayer, BoxError, FinalUri, Refused, TokenCache, UnlistedOrigin};
use tower_http::follow_redirect::{FollowRedirectLayer, RequestUri};

/// Tells the layer which host answered.
fn with_final_uri<B>(mut response: Response<B>) -> Response<B> {
    if let Some(RequestUri(uri)) = response.extensions().get().cloned() {
        response.extensions_mut().insert(FinalUri(uri));
    }
    response
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (tokens, others) = (loopback::Tokens::default(), loopback::Tokens::default());
    let token_origin = loopback::serve(loopback::token_service(&tokens)).await?;
    let other_host = loopback::serve(loopback::protected_api(&others)).await?;
    let away = get(move || async move { Redirect::temporary(&other_host) });
    let api = loopback::serve(Router::new().route("/moved", away)).await?;

    let cache = TokenCache::new(loopback::endpoint(&format!("{token_origin}/token"))?);
    let layer = BearerAuthLayer::from_cache(cache).origin(&api)?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = Request::get(format!("{api}/moved")).body(Full::<Bytes>::default())?;

    let above = ServiceBuilder::new().layer(FollowRedirectLayer::new());
    let refusing = above.clone().layer(layer.clone()).service(client.clone());
    let error = refusing.oneshot(request.clone()).await.expect_err("the layer has no such origin");
    println!("above, by default: {}", error.downcast_ref::<Refused>().expect("a refusal"));

    let bare = layer.clone().unlisted_origins(UnlistedOrigin::SendBare);
    let sending = above.layer(bare).service(client.clone());
    println!("above, sent bare: {}", sending.oneshot(request.clone()).await?.status());

    let below = ServiceBuilder::new()
        .layer(layer)
        .map_response(with_final_uri)
        .layer(FollowRedirectLayer::new())
        .service(client);
    println!("below: {}", below.oneshot(request).await?.status());

    println!("the other host was shown: {}", others.shown().join(", "));
    println!("{} token was fetched", tokens.issued());
    Ok(())
}
