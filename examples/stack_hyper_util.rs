//! hyper-util's client over rustls, with a private certificate authority.
//!
//! ```sh
//! cargo run --example stack_hyper_util
//! ```

mod loopback;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{BearerAuthLayer, BoxError};

type HttpsClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client that trusts only this authority. It speaks HTTP/2 if the server does.
fn client(authority: CertificateDer<'static>) -> Result<HttpsClient, BoxError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority)?;
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_all_versions()
        .build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let tokens = loopback::Tokens::default();
    let token_origin = loopback::serve(loopback::token_service(&tokens)).await?;
    let (api, authority) = loopback::tls::serve(loopback::protected_api(&tokens)).await?;

    let endpoint = loopback::endpoint(&format!("{token_origin}/token"))?;
    let stack = ServiceBuilder::new()
        .layer(BearerAuthLayer::new(endpoint).origin(&api)?)
        .service(client(authority.der().clone())?);

    for path in ["/invoices/1", "/invoices/2"] {
        let request = Request::get(format!("{api}{path}")).body(Full::<Bytes>::default())?;
        println!("{}", loopback::text(stack.clone().oneshot(request).await?).await?);
        // The API answers the next call with 401, which the layer hides.
        tokens.revoke();
    }
    println!("{} tokens were fetched", tokens.issued());
    Ok(())
}
