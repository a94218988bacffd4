//! The command line and the environment.

use std::{env, path::PathBuf};

use http::Uri;
use tower_bearer::Origin;

pub(crate) const USAGE: &str = "\
usage: quickstart [--html FILE] [--against-mutex | --token-url URL --api-url URL]

  without arguments  a demonstration on this machine: no network, no account
  --html FILE        writes the report as a page too, with a picture of each phase
  --against-mutex    an expiry and a revocation, beside hand-written code under the same load
  --token-url URL    an OAuth 2.0 token endpoint that grants client credentials;
                     they are read from CLIENT_ID, CLIENT_SECRET and, if set, SCOPE
  --api-url URL      what to GET with the token";

/// What is to be done.
pub(crate) enum Command {
    Help,
    Run { show: Show, html: Option<PathBuf> },
}

/// What is to be shown.
pub(crate) enum Show {
    Demonstration,
    AgainstMutex,
    Real(Box<Target>),
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
        let (mut token_url, mut api_url, mut html) = (None, None, None);
        let mut against_mutex = false;
        while let Some(arg) = args.next() {
            let value = match arg.as_str() {
                "--help" | "-h" => return Ok(Self::Help),
                "--against-mutex" => {
                    against_mutex = true;
                    continue;
                }
                "--html" => &mut html,
                "--token-url" => &mut token_url,
                "--api-url" => &mut api_url,
                _ => return Err(usage(&format!("what is `{arg}`?"))),
            };
            *value = Some(args.next().ok_or_else(|| usage(&format!("{arg} needs a value")))?);
        }
        let show = match (token_url, api_url, against_mutex) {
            (None, None, false) => Show::Demonstration,
            (None, None, true) => Show::AgainstMutex,
            (Some(token_url), Some(api_url), false) => {
                Show::Real(Box::new(Target::new(token_url, &api_url)?))
            }
            (_, _, false) => return Err(usage("--token-url and --api-url go together")),
            (_, _, true) => return Err(usage("--against-mutex takes no URL")),
        };
        Ok(Self::Run { show, html: html.map(PathBuf::from) })
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
