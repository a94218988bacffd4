use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{BearerAuthLayer, BoxError, oauth2::TokenEndpoint};

async fn call(endpoint: TokenEndpoint) -> Result<(), BoxError> {
    let connector =
        HttpsConnectorBuilder::new().with_native_roots()?.https_only().enable_all_versions().build();
    let api = ServiceBuilder::new()
        .layer(BearerAuthLayer::new(endpoint).origin(url!("https://api.example.com"))?)
        .service(Client::builder(TokioExecutor::new()).build(connector));

    let request = Request::get(url!("https://api.example.com/v1/invoices")).body(Full::<Bytes>::default())?;
    println!("{}", api.clone().oneshot(request).await?.status());
    Ok(())
}
