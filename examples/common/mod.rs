//! Code that the examples share.

mod spelling;

use std::{env, error::Error, iter::successors, process::ExitCode, time::Duration};

use reqwest::{Client, Response, redirect::Policy};
use tower_bearer::{BoxError, oauth2::ReqwestService};

/// How much of an API's error to show, in bytes.
const SHOWN: usize = 500;

/// Makes the call if the variables that it needs are set. Exits with 2 and one line if one is
/// missing, and with 1 if the call fails.
pub(crate) async fn run(
    needed: &[&str],
    call: impl Future<Output = Result<(), BoxError>>,
) -> ExitCode {
    let is_set = |name: &str| env::var(name).is_ok_and(|value| !value.is_empty());
    let is_missing = |names: &&str| !names.split(" or ").any(is_set);
    let missing: Vec<_> = needed.iter().copied().filter(is_missing).collect();
    if !missing.is_empty() {
        let (names, hint) = (missing.join(", "), spelling::hint(&missing));
        eprintln!("not set in the environment, or empty, or not UTF-8: {names}{hint}");
        return ExitCode::from(2);
    }
    let Err(error) = call.await else { return ExitCode::SUCCESS };
    let causes = successors(Some(error.as_ref() as &dyn Error), |&error| error.source());
    eprintln!("{}", causes.map(ToString::to_string).collect::<Vec<_>>().join(": "));
    ExitCode::FAILURE
}

/// The innermost service. It gives up on a server that hangs. It follows no redirects: a redirect
/// below the layer would get past its check of origins.
pub(crate) fn http() -> Result<ReqwestService, BoxError> {
    let client = Client::builder()
        .redirect(Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(60));
    Ok(client.build()?.into())
}

/// The response if the API did what the request asked for, else an error with the API's text.
pub(crate) async fn accepted(
    response: http::Response<reqwest::Body>,
) -> Result<Response, BoxError> {
    let mut response = Response::from(response);
    if response.status().is_success() {
        return Ok(response);
    }
    let mut said = Vec::new();
    // If the text breaks off, show what has arrived.
    while let (true, Ok(Some(chunk))) = (said.len() < SHOWN, response.chunk().await) {
        said.extend_from_slice(&chunk);
    }
    said.truncate(SHOWN);
    // Shows control characters, which could steer a terminal, as spaces.
    let said = String::from_utf8_lossy(&said).replace(char::is_control, " ");
    Err(format!("the API answered {}: {}", response.status(), said.trim()).into())
}
