//! One client for an API that requires a different token for each purpose. The extensions of each
//! request name its scope and its resource (RFC 8707).
//!
//! The API runs on this machine, and answers with the purpose of the token that it got.
//!
//! ```sh
//! cargo run --example per_request_scope
//! ```

mod loopback;

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{BearerAuthLayer, BoxError, KeyedTokenCache, TokenKey, oauth2::TokenEndpoint};

use loopback::accounts::{self, Accounts};

const STOCK: &str = "https://stock.example.com";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let accounts = Accounts::default();
    let token_service = loopback::serve(accounts::token_service(&accounts)).await?;
    let api = loopback::serve(accounts::protected_api(&accounts)).await?;

    let endpoint = TokenEndpoint::builder(format!("{token_service}/token"))
        .client_id("my-app")
        .client_secret("s3cr3t")
        .scope("profile") // for a request without a key
        .build()?;
    let tokens = KeyedTokenCache::builder(endpoint).build()?;
    let client = ServiceBuilder::new()
        .layer(BearerAuthLayer::from_cache(&tokens).origin(&api)?)
        .service(Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>());

    let read = TokenKey::new().scope("orders:read");
    let write = TokenKey::new().scope("orders:write");
    let stock = TokenKey::new().scope("stock:read").resource(STOCK);
    // The second round uses each token again.
    for _ in 0..2 {
        for (method, path, key, expected) in [
            ("GET", "/orders", Some(&read), "GET /orders for my-app: orders:read"),
            ("POST", "/orders", Some(&write), "POST /orders for my-app: orders:write"),
            ("GET", "/stock", Some(&stock), &format!("GET /stock for my-app: stock:read {STOCK}")),
            ("GET", "/me", None, "GET /me for my-app: profile"),
        ] {
            let mut request = Request::builder().method(method).uri(format!("{api}{path}"));
            if let Some(key) = key {
                request = request.extension(key.clone());
            }
            let response = client.clone().oneshot(request.body(Full::default())?).await?;
            let text = loopback::text(response.map(Body::new)).await?;
            println!("{text}");
            assert_eq!(text, expected);
        }
    }
    assert_eq!((accounts.fetched().len(), tokens.len()), (4, 4));
    println!(
        "{} tokens were fetched for {} calls",
        accounts.fetched().len(),
        accounts.shown().len()
    );
    Ok(())
}
