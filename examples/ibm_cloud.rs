//! Lists the keys of a Key Protect instance, each with its id, its state and its name.
//!
//! ```text
//! IBMCLOUD_API_KEY=… IBMCLOUD_INSTANCE_ID=… cargo run --example ibm_cloud
//! ```
//!
//! Instead of the API key you can set `IBMCLOUD_KEY_FILE=key.json`: the file that `ibmcloud iam
//! service-api-key-create … --file key.json` writes. The instance is in us-south unless you set
//! `IBMCLOUD_API_URL` to another region's `https://….kms.cloud.ibm.com/api/v2/keys`. Set
//! `IBMCLOUD_TOKEN_URL` to fetch the token from another URL than
//! `https://iam.cloud.ibm.com/identity/token`.

mod common;

use std::{
    env,
    io::{Write, stdout},
    process::ExitCode,
};

use http::{Request, Uri, header::ACCEPT};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{BearerAuthLayer, BoxError, Origin, Secret, oauth2::providers};

const US_SOUTH: &str = "https://us-south.kms.cloud.ibm.com/api/v2/keys";
/// The largest accepted list of keys, in bytes.
const MAX_LIST: usize = 16 * 1024 * 1024;

#[tokio::main]
async fn main() -> ExitCode {
    common::run(&["IBMCLOUD_API_KEY or IBMCLOUD_KEY_FILE", "IBMCLOUD_INSTANCE_ID"], call()).await
}

async fn call() -> Result<(), BoxError> {
    let mut endpoint = providers::ibm_cloud(match env::var_os("IBMCLOUD_KEY_FILE") {
        Some(path) => Secret::json_file(path, "apikey"),
        None => Secret::env("IBMCLOUD_API_KEY"),
    });
    if let Ok(url) = env::var("IBMCLOUD_TOKEN_URL") {
        endpoint = endpoint.url(url);
    }

    let url: Uri = env::var("IBMCLOUD_API_URL").as_deref().unwrap_or(US_SOUTH).parse()?;
    let origin = Origin::of(&url).ok_or("IBMCLOUD_API_URL is not absolute")?;
    let client = ServiceBuilder::new()
        .layer(BearerAuthLayer::new(endpoint.build()?).origin(origin)?)
        .service(common::http()?);

    let request = Request::get(url)
        .header(ACCEPT, "application/vnd.ibm.collection+json")
        .header("bluemix-instance", env::var("IBMCLOUD_INSTANCE_ID")?)
        .body(String::new())?;
    let response = common::accepted(client.oneshot(request).await?).await?;
    let body = Limited::new(reqwest::Body::from(response), MAX_LIST).collect().await?;
    let list: Value = serde_json::from_slice(&body.to_bytes())?;
    // An instance without keys has no `resources`.
    for key in list["resources"].as_array().into_iter().flatten() {
        writeln!(stdout(), "{} {} {}", key["id"], key["state"], key["name"])?;
    }
    Ok(())
}
