use tonic::{
    body::Body,
    transport::{Channel, ClientTlsConfig},
};
use tower::Layer;
use tower_bearer::{
    BearerAuth, BearerAuthLayer, BoxError, BufferBody, ReplayBody, oauth2::TokenEndpoint,
};

type Api = BearerAuth<Channel, BufferBody<fn(ReplayBody<Body>) -> Body>>;

/// For your generated client: `GreeterClient::new(api(endpoint).await?)`.
async fn api(endpoint: TokenEndpoint) -> Result<Api, BoxError> {
    let origin = url!("https://api.example.com");
    // For a private authority: `.ca_certificate(Certificate::from_pem(pem))`.
    let tls = ClientTlsConfig::new().with_native_roots();
    let channel = Channel::from_static(origin).tls_config(tls)?.connect().await?;
    Ok(BearerAuthLayer::new(endpoint)
        .origin(origin)?
        .assume_origin(origin)? // tonic adds scheme and host below the layer
        .grpc() // UNAUTHENTICATED comes with HTTP status 200
        .buffer_body(64 * 1024, Body::new as fn(ReplayBody<Body>) -> Body)
        .layer(channel))
}
