//! The command line and the environment.

use std::{env, path::PathBuf};

use http::Uri;
use tower_bearer::Origin;

pub(crate) const USAGE: &str = "\
usage: quickstart [--html FILE] [--against-mutex | --token-url URL --api-url URL]

  without arguments  run the demonstration on this machine: no network, no account
  --html FILE        also write the report as a page, with a chart of each phase
  --against-mutex    compare with hand-written code under the same load:
                     an expiry and a revocation
  --token-url URL    use this OAuth 2.0 token endpoint, with client credentials from
                     the variables CLIENT_ID, CLIENT_SECRET and, if set, SCOPE
  --api-url URL      GET this URL with the token
  --help, -h         print this help";

/// What the command line asks for.
pub(crate) enum Command {
    Help,
    Run { show: Show, html: Option<PathBuf> },
}

/// Which report to make.
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
                _ => return Err(usage(&format!("unknown argument `{arg}`"))),
            };
            *value = Some(args.next().ok_or_else(|| usage(&format!("{arg} needs a value")))?);
        }
        let show = match (token_url, api_url, against_mutex) {
            (None, None, false) => Show::Demonstration,
            (None, None, true) => Show::AgainstMutex,
            (Some(token_url), Some(api_url), false) => {
                Show::Real(Box::new(Target::new(token_url, &api_url)?))
            }
            (_, _, false) => {
                return Err(usage("--token-url and --api-url need each other: give both"));
            }
            (_, _, true) => {
                return Err(usage("--against-mutex and --token-url exclude each other"));
            }
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
            return Err(format!("set {} in the environment", missing.join(" and ")));
        };
        let api_url: Uri = api_url.parse().map_err(|error| format!("--api-url: {error}"))?;
        Ok(Self {
            token_url,
            api_origin: Origin::of(&api_url)
                .ok_or("--api-url is not an absolute http or https URL")?,
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
