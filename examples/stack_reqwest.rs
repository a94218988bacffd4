//! `reqwest::Client` as the innermost service of a tower stack.
//!
//! Turn its redirects off: it follows them below the layer, which then cannot check them. To follow
//! redirects, put tower-http's `FollowRedirect` above the layer (`stack_redirects`).
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
        // A `reqwest::Body` is not `Clone`, so the layer keeps a copy while it streams.
        .layer(
            BearerAuthLayer::new(endpoint)
                .origin(&api)?
                .buffer_body(64 * 1024, reqwest::Body::wrap),
        )
        .service(ReqwestService::new(client));

    for text in ["a first report", "a second report"] {
        let request = Request::post(format!("{api}/reports")).body(reqwest::Body::from(text))?;
        let response = stack.clone().oneshot(request).await?;
        // From here on, reqwest's own methods are available: `json`, `text`, `bytes_stream`.
        println!("{}", reqwest::Response::from(response).text().await?);
        // The API answers the next call with 401, which the layer hides.
        tokens.revoke();
    }
    println!("{} tokens were fetched", tokens.issued());
    Ok(())
}
