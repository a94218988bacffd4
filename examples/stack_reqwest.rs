//! `reqwest::Client` as the innermost service of a tower stack.
//!
//! Turn its redirects off: it follows them below the layer, where nothing can be judged any
//! more. tower-http's `FollowRedirect` above the layer is better (`stack_redirects`).
//!
//! ```sh
//! cargo run --example stack_reqwest
//! ```

mod loopback;

use std::time::Duration;

use http::Request;
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{BearerAuthLayer, BoxError, oauth2::ReqwestService};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let tokens = loopback::Tokens::default();
    let token_origin = loopback::serve(loopback::token_service(&tokens)).await?;
    let api = loopback::serve(loopback::protected_api(&tokens)).await?;

    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .build()?;
    let endpoint = loopback::endpoint(&format!("{token_origin}/token"))?;
    let stack = ServiceBuilder::new()
        // A `reqwest::Body` is not `Clone`, so a copy is kept while it streams.
        .layer(
            BearerAuthLayer::new(endpoint)
                .origin(&api)?
                .buffer_body(64 * 1024, reqwest::Body::wrap),
        )
        .service(ReqwestService::new(client));

    for text in ["a first report", "a second report"] {
        let request = Request::post(format!("{api}/reports")).body(reqwest::Body::from(text))?;
        let response = stack.clone().oneshot(request).await?;
        // Back among reqwest's own conveniences: `json`, `text`, `bytes_stream`.
        println!("{}", reqwest::Response::from(response).text().await?);
        // The next call is answered 401 at first, which nobody sees.
        tokens.revoke();
    }
    println!("{} tokens were fetched", tokens.issued());
    Ok(())
}
