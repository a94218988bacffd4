use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use tower_bearer::{BearerAuthLayer, BearerAuthMiddleware, BoxError, oauth2::TokenEndpoint};

fn client(endpoint: TokenEndpoint) -> Result<ClientWithMiddleware, BoxError> {
    let auth = BearerAuthLayer::new(endpoint).origin(url!("https://api.example.com"))?;
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    // `RetryTransientMiddleware` of reqwest-retry goes above: `.with(retry).with(auth)`.
    Ok(ClientBuilder::new(http).with(BearerAuthMiddleware::from(auth)).build())
}
