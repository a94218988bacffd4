//! Calls an API of IBM Security Verify, and prints the answer.
//!
//! ```text
//! IBM_VERIFY_TENANT=tenant.verify.ibm.com IBM_VERIFY_CLIENT_ID=… IBM_VERIFY_CLIENT_SECRET=… \
//!     IBM_VERIFY_API_URL=https://tenant.verify.ibm.com/v2.0/Users \
//!     cargo run --example ibm_verify
//! ```
//!
//! It calls the API by `GET`. Set `IBM_VERIFY_TOKEN_URL` to fetch the token from another URL than
//! the tenant's `/v1.0/endpoint/default/token`.

mod common;

use std::{
    env,
    io::{Write, stdout},
    process::ExitCode,
};

use http::{Request, Uri};
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{BearerAuthLayer, BoxError, Origin, Secret, oauth2::providers};

const NEEDED: [&str; 4] =
    ["IBM_VERIFY_TENANT", "IBM_VERIFY_CLIENT_ID", "IBM_VERIFY_CLIENT_SECRET", "IBM_VERIFY_API_URL"];

#[tokio::main]
async fn main() -> ExitCode {
    common::run(&NEEDED, call()).await
}

async fn call() -> Result<(), BoxError> {
    let mut endpoint = providers::ibm_verify(
        env::var("IBM_VERIFY_TENANT")?,
        env::var("IBM_VERIFY_CLIENT_ID")?,
        Secret::env("IBM_VERIFY_CLIENT_SECRET"),
    );
    if let Ok(url) = env::var("IBM_VERIFY_TOKEN_URL") {
        endpoint = endpoint.url(url);
    }

    let url: Uri = env::var("IBM_VERIFY_API_URL")?.parse()?;
    let origin = Origin::of(&url).ok_or("IBM_VERIFY_API_URL is not absolute")?;
    let client = ServiceBuilder::new()
        .layer(BearerAuthLayer::new(endpoint.build()?).origin(origin)?)
        .service(common::http()?);

    let request = Request::get(url).body(String::new())?;
    let mut response = common::accepted(client.oneshot(request).await?).await?;
    while let Some(chunk) = response.chunk().await? {
        stdout().write_all(&chunk)?;
    }
    Ok(())
}
