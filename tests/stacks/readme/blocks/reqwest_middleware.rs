use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use reqwest_retry::{RetryTransientMiddleware, policies::ExponentialBackoff};
use tower_bearer::{BearerAuthLayer, BearerAuthMiddleware, BoxError, oauth2::TokenEndpoint};

fn client(endpoint: TokenEndpoint) -> Result<ClientWithMiddleware, BoxError> {
    let auth = BearerAuthLayer::new(endpoint).origin(url!("https://api.example.com"))?;
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let retry = ExponentialBackoff::builder().build_with_max_retries(2);
    Ok(ClientBuilder::new(http)
        .with(RetryTransientMiddleware::new_with_policy(retry)) // above, or leave it out
        .with(BearerAuthMiddleware::from(auth))
        .build())
}
