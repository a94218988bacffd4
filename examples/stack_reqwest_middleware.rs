//! A `reqwest_middleware::ClientWithMiddleware`, with reqwest-retry above the layer's middleware.
//!
//! Each part retries something else. reqwest-retry retries connection errors, 5xx and 429, and each
//! of its attempts gets the current token. The layer's middleware retries a 401, once, with a new
//! token. The cache retries fetches.
//!
//! ```sh
//! cargo run --example stack_reqwest_middleware --features reqwest-middleware
//! ```

mod loopback;

use reqwest_middleware::ClientBuilder;
use reqwest_retry::{RetryTransientMiddleware, policies::ExponentialBackoff};
use tower_bearer::{BearerAuthLayer, BearerAuthMiddleware, BoxError};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let tokens = loopback::Tokens::default();
    let token_origin = loopback::serve(loopback::token_service(&tokens)).await?;
    let api = loopback::serve(loopback::protected_api(&tokens)).await?;

    let endpoint = loopback::endpoint(&format!("{token_origin}/token"))?;
    let auth = BearerAuthLayer::new(endpoint).origin(&api)?;
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let backoff = ExponentialBackoff::builder().build_with_max_retries(3);
    let client = ClientBuilder::new(http)
        .with(RetryTransientMiddleware::new_with_policy(backoff))
        .with(BearerAuthMiddleware::from(auth))
        .build();

    for text in ["a first report", "a second report"] {
        let response = client.post(format!("{api}/reports")).body(text).send().await?;
        println!("{}", response.text().await?);
        // The API answers the next call with 401, which the middleware hides.
        tokens.revoke();
    }
    println!("{} tokens were fetched", tokens.issued());
    Ok(())
}
