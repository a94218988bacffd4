//! A `reqwest_middleware::ClientWithMiddleware`, with reqwest-retry above.
//!
//! Who retries what: reqwest-retry what failed on the way (connections, 5xx, 429), and each of
//! its tries is given the token of its moment; the middleware a 401, once, with another token;
//! the cache a fetch. None of them touches what is another's.
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
        // The next call is answered 401 at first, which nobody sees.
        tokens.revoke();
    }
    println!("{} tokens were fetched", tokens.issued());
    Ok(())
}
