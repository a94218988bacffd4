//! Asks a model behind a secured inference endpoint of `GreenNode` (chat completions in the format
//! of `OpenAI`), and prints its answer as it arrives.
//!
//! ```text
//! GREENNODE_CLIENT_ID=… GREENNODE_CLIENT_SECRET=… GREENNODE_MODEL=… \
//!     GREENNODE_API_URL=https://…/v1/chat/completions \
//!     cargo run --example greennode -- "Why is the sky blue?"
//! ```
//!
//! Set `GREENNODE_TOKEN_URL` to fetch the token from another URL than
//! `https://iam.api.greennode.ai/accounts/v2/auth/token`.

mod common;

use std::{
    env,
    io::{Write, stdout},
    process::ExitCode,
};

use http::{Request, Uri, header::CONTENT_TYPE};
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer::{BearerAuthLayer, BoxError, Origin, Secret, oauth2::providers};

const NEEDED: [&str; 4] =
    ["GREENNODE_CLIENT_ID", "GREENNODE_CLIENT_SECRET", "GREENNODE_MODEL", "GREENNODE_API_URL"];
/// The longest accepted line of the answer, in bytes.
const MAX_LINE: usize = 1024 * 1024;

#[tokio::main]
async fn main() -> ExitCode {
    common::run(&NEEDED, call()).await
}

async fn call() -> Result<(), BoxError> {
    let client_secret = Secret::env("GREENNODE_CLIENT_SECRET");
    let mut endpoint = providers::greennode(env::var("GREENNODE_CLIENT_ID")?, client_secret);
    if let Ok(url) = env::var("GREENNODE_TOKEN_URL") {
        endpoint = endpoint.url(url);
    }

    let url: Uri = env::var("GREENNODE_API_URL")?.parse()?;
    let origin = Origin::of(&url).ok_or("GREENNODE_API_URL is not absolute")?;
    let client = ServiceBuilder::new()
        .layer(BearerAuthLayer::new(endpoint.build()?).origin(origin)?)
        .service(common::http()?);

    let question = env::args().nth(1).unwrap_or_else(|| "Why is the sky blue?".to_owned());
    let messages = json!([{ "role": "user", "content": question }]);
    let body =
        json!({ "model": env::var("GREENNODE_MODEL")?, "messages": messages, "stream": true });
    let request =
        Request::post(url).header(CONTENT_TYPE, "application/json").body(body.to_string())?;
    print_stream(common::accepted(client.oneshot(request).await?).await?).await
}

/// Prints the pieces of an answer that arrives as server-sent events.
async fn print_stream(mut response: reqwest::Response) -> Result<(), BoxError> {
    let mut unread = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        unread.extend_from_slice(&chunk);
        while let Some(end) = unread.iter().position(|&byte| byte == b'\n') {
            let line: Vec<_> = unread.drain(..=end).collect();
            match line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) {
                Some(b"[DONE]") => return Ok(writeln!(stdout())?),
                Some(data) => print_piece(&serde_json::from_slice(data)?)?,
                None => {} // A comment, or the end of an event.
            }
        }
        if unread.len() > MAX_LINE {
            return Err("the answer has a line that is too long".into());
        }
    }
    Err("the answer broke off".into())
}

fn print_piece(event: &Value) -> Result<(), BoxError> {
    if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
        return Err(format!("the model failed: {:.500}", error.to_string()).into());
    }
    let piece = event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
    write!(stdout(), "{piece}")?;
    Ok(stdout().flush()?)
}
