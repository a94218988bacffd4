use http::Request;
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{BearerAuthLayer, BoxError, oauth2::{ReqwestService, TokenEndpoint}};

async fn call(endpoint: TokenEndpoint) -> Result<(), BoxError> {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let layer = BearerAuthLayer::new(endpoint)
        .origin(url!("https://api.example.com"))?
        .buffer_body(64 * 1024, reqwest::Body::wrap);
    let api = ServiceBuilder::new().layer(layer).service(ReqwestService::new(client));

    let request = Request::post(url!("https://api.example.com/v1/reports"))
        .body(reqwest::Body::from("a report"))?;
    let response = reqwest::Response::from(api.clone().oneshot(request).await?);
    println!("{}", response.text().await?);
    Ok(())
}
