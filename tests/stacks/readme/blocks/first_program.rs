use http::Request;
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{BearerAuthLayer, Secret, oauth2::{ReqwestService, TokenEndpoint}};

#[tokio::main]
async fn main() -> Result<(), tower::BoxError> {
    let endpoint = TokenEndpoint::builder(url!("https://auth.example.com/oauth/token"))
        .client_id("my-app")
        .client_secret(Secret::env("CLIENT_SECRET"))
        .build()?;
    let api = ServiceBuilder::new()
        .layer(BearerAuthLayer::new(endpoint).origin(url!("https://api.example.com"))?)
        .service(ReqwestService::default()); // follows no redirect: they belong above the layer

    let request = Request::get(url!("https://api.example.com/v1/invoices")).body(String::new())?;
    println!("{}", api.clone().oneshot(request).await?.status());
    Ok(())
}
