//! The command line and the environment.

use std::env;

use http::Uri;
use tower_bearer::Origin;

pub(crate) const USAGE: &str = "\
usage: quickstart [--token-url URL --api-url URL]

  without arguments  a demonstration on this machine: no network, no account
  --token-url URL    an OAuth 2.0 token endpoint that grants client credentials;
                     they are read from CLIENT_ID, CLIENT_SECRET and, if set, SCOPE
  --api-url URL      what to GET with the token";

/// What is to be done.
pub(crate) enum Command {
    Help,
    Demonstrate,
    Call(Box<Target>),
}

/// A real token service and a real API.
pub(crate) struct Target {
    pub(crate) token_url: String,
    pub(crate) api_url: Uri,
    pub(crate) api_origin: Origin,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) scope: Option<String>,
}

impl Command {
    pub(crate) fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut token_url, mut api_url) = (None, None);
        while let Some(arg) = args.next() {
            let url = match arg.as_str() {
                "--help" | "-h" => return Ok(Self::Help),
                "--token-url" => &mut token_url,
                "--api-url" => &mut api_url,
                _ => return Err(usage(&format!("what is `{arg}`?"))),
            };
            *url = Some(args.next().ok_or_else(|| usage(&format!("{arg} needs a URL")))?);
        }
        match (token_url, api_url) {
            (None, None) => Ok(Self::Demonstrate),
            (Some(token_url), Some(api_url)) => {
                Target::new(token_url, &api_url).map(|target| Self::Call(Box::new(target)))
            }
            _ => Err(usage("--token-url and --api-url go together")),
        }
    }
}

impl Target {
    fn new(token_url: String, api_url: &str) -> Result<Self, String> {
        let needed = ["CLIENT_ID", "CLIENT_SECRET"];
        let [Some(client_id), Some(client_secret)] = needed.map(variable) else {
            let is_missing = |name: &&str| variable(name).is_none();
            let missing: Vec<_> = needed.into_iter().filter(is_missing).collect();
            return Err(format!("{} must be set in the environment", missing.join(" and ")));
        };
        let api_url: Uri = api_url.parse().map_err(|error| format!("--api-url: {error}"))?;
        Ok(Self {
            token_url,
            api_origin: Origin::of(&api_url).ok_or("--api-url is no http(s) URL")?,
            api_url,
            client_id,
            client_secret,
            scope: variable("SCOPE"),
        })
    }
}

fn usage(error: &str) -> String {
    format!("{error}\n{USAGE}")
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
