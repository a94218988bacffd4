//! A tonic `Channel` over TLS, with a private certificate authority.
//!
//! tonic adds scheme and authority below the layer, so `assume_origin` tells the layer the origin.
//! The layer cannot see whether the channel encrypts, so set `tls_config`. A gRPC server sends
//! `UNAUTHENTICATED` with HTTP status 200, usually in the headers. With `.grpc()` the layer sees it
//! and sends the call again. In a stream that has begun, the status is in the trailers, which only
//! the caller sees: see the end of this example.
//!
//! ```sh
//! cargo run --example stack_tonic
//! ```

mod loopback;

use futures_util::{TryStreamExt, stream};
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig},
};
use tower::ServiceBuilder;
use tower_bearer::{BearerAuthLayer, BoxError, Rejection, TokenCache};

use loopback::grpc::{GreeterClient, JOIN};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let tokens = loopback::Tokens::default();
    let token_origin = loopback::serve(loopback::token_service(&tokens)).await?;
    let (api, authority) = loopback::tls::serve(loopback::grpc::server(&tokens)).await?;

    // `with_native_roots()` trusts the authorities that this machine trusts.
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    let channel = Channel::from_shared(api.clone())?.tls_config(tls)?.connect_lazy();

    let cache = TokenCache::new(loopback::endpoint(&format!("{token_origin}/token"))?);
    let stack = ServiceBuilder::new()
        .layer(
            BearerAuthLayer::from_cache(cache.clone())
                .origin(&api)?
                .assume_origin(&api)?
                .grpc()
                .buffer_body(64 * 1024, tonic::body::Body::new),
        )
        .service(channel);
    let mut greeter = GreeterClient::new(stack); // yours is generated

    println!("unary: {}", greeter.hello("world").await?);
    tokens.revoke();
    let names = ["Ada", "Grace"].map(str::to_owned);
    println!("streamed, and rejected once: {}", greeter.join(JOIN, stream::iter(names)).await?);

    // A long-lived stream. Take the token before the call, so that the rejected token is never
    // newer than the one that was sent. The next call waits for the new token.
    tokens.revoke();
    let carried = cache.get().await?;
    let answers: Result<Vec<String>, _> = greeter.late().await?.try_collect().await;
    if answers.is_err_and(|status| status.code() == Code::Unauthenticated) {
        println!("rejected in the trailers");
        cache.reject(Rejection::new(carried).with_origin(api.parse()?));
    }
    println!("again: {:?}", greeter.late().await?.try_collect::<Vec<_>>().await?);
    println!("{} tokens were fetched", tokens.issued());
    Ok(())
}
