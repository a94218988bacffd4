//! Calls an API with a token of Ianum Auth, and prints the API's answer.
//!
//! ```text
//! IANUM_CLIENT_ID=gate_… IANUM_CLIENT_SECRET=… IANUM_API_URL=https://… cargo run --example ianum
//! ```
//!
//! The client id may be an alias. The example calls the API by `GET`. Set `IANUM_TOKEN_URL` to
//! fetch the token from another URL than `https://api-auth.ianum.com/v1_3/oauth/token`.

mod common;

use std::{
    env,
    io::{Write, stdout},
    process::ExitCode,
};

use http::{Request, Uri};
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{BearerAuthLayer, BoxError, Origin, Secret, oauth2::providers};

#[tokio::main]
async fn main() -> ExitCode {
    common::run(&["IANUM_CLIENT_ID", "IANUM_CLIENT_SECRET", "IANUM_API_URL"], call()).await
}

async fn call() -> Result<(), BoxError> {
    let client_secret = Secret::env("IANUM_CLIENT_SECRET");
    let mut endpoint = providers::ianum(env::var("IANUM_CLIENT_ID")?, client_secret);
    if let Ok(url) = env::var("IANUM_TOKEN_URL") {
        endpoint = endpoint.url(url);
    }

    let url: Uri = env::var("IANUM_API_URL")?.parse()?;
    let origin = Origin::of(&url).ok_or("IANUM_API_URL is not absolute")?;
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
