//! Prints an access token, and nothing else:
//!
//! ```text
//! export ACCESS_TOKEN=$(cargo run -q --features command --example token -- gcloud)
//! ```
//!
//! Without arguments, it prints its usage. It prints errors on standard error. It exits with 1 if
//! it could not get a token, and with 2 if the arguments or the environment are wrong. It takes
//! secrets from the environment and from files, never from an argument.

#[path = "common/spelling.rs"]
mod spelling;

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{Write, stdout},
    process::ExitCode,
};

use tower_bearer::{
    Secret, TokenCache,
    local::StoredToken,
    oauth2::{TokenEndpointBuilder, providers},
};

const USAGE: &str = "\
usage: token SOURCE
  env NAME                       the token in this environment variable
  file PATH                      the token in this file
  ibmcloud | gcloud | az [ARG…]  the token of the user who is logged in there (*)
  run PROGRAM [ARG…]             the token that a program prints (*)
  exec-plugin PROGRAM [ARG…]     the token of a Kubernetes credential plugin (*)
  ibm_cloud                      IBMCLOUD_API_KEY, or IBMCLOUD_KEY_FILE
  key-file PATH                  the same, with the file of the API key
  ibm_verify                     IBM_VERIFY_TENANT, IBM_VERIFY_CLIENT_ID, IBM_VERIFY_CLIENT_SECRET
  greennode                      GREENNODE_CLIENT_ID, GREENNODE_CLIENT_SECRET
  ianum                          IANUM_CLIENT_ID, IANUM_CLIENT_SECRET
(*) needs `--features command`. Set IBMCLOUD_TOKEN_URL, IBM_VERIFY_TOKEN_URL, GREENNODE_TOKEN_URL or
IANUM_TOKEN_URL to fetch the token from another URL.";

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<_> = env::args_os().skip(1).collect();
    let cache = match source(&args) {
        Ok(cache) => cache,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let printed = match cache.get().await {
        Ok(token) => writeln!(stdout(), "{}", token.secret()).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let Err(problem) = printed else { return ExitCode::SUCCESS };
    eprintln!("{problem}");
    ExitCode::FAILURE
}

/// Puts the source into a cache, which gives all sources one type and retries.
fn source(args: &[OsString]) -> Result<TokenCache, String> {
    let (kind, args) = args.split_first().ok_or(USAGE)?;
    match (kind.to_str().ok_or(USAGE)?, args) {
        ("env", [name]) => Ok(TokenCache::new(StoredToken::env(name.to_str().ok_or(USAGE)?))),
        ("file", [path]) => Ok(TokenCache::new(StoredToken::file(path))),
        ("key-file", [path]) => endpoint("IBMCLOUD", providers::ibm_cloud(key_file(path))),
        ("ibm_cloud", []) => endpoint("IBMCLOUD", providers::ibm_cloud(ibm_cloud_key()?)),
        ("ibm_verify", []) => {
            let (tenant, id) = (set("IBM_VERIFY_TENANT")?, set("IBM_VERIFY_CLIENT_ID")?);
            let secret = set("IBM_VERIFY_CLIENT_SECRET")?;
            endpoint("IBM_VERIFY", providers::ibm_verify(tenant, id, secret))
        }
        ("greennode", []) => {
            let (id, secret) = (set("GREENNODE_CLIENT_ID")?, set("GREENNODE_CLIENT_SECRET")?);
            endpoint("GREENNODE", providers::greennode(id, secret))
        }
        ("ianum", []) => {
            let (id, secret) = (set("IANUM_CLIENT_ID")?, set("IANUM_CLIENT_SECRET")?);
            endpoint("IANUM", providers::ianum(id, secret))
        }
        (kind, args) => command(kind, args),
    }
}

fn endpoint(prefix: &str, mut builder: TokenEndpointBuilder) -> Result<TokenCache, String> {
    if let Ok(url) = env::var(format!("{prefix}_TOKEN_URL")) {
        builder = builder.url(url);
    }
    builder.build().map(TokenCache::new).map_err(|error| error.to_string())
}

fn ibm_cloud_key() -> Result<Secret, String> {
    match env::var_os("IBMCLOUD_KEY_FILE") {
        Some(path) => Ok(key_file(&path)),
        None => set("IBMCLOUD_API_KEY").map(Secret::new),
    }
}

fn key_file(path: &OsStr) -> Secret {
    Secret::json_file(path, "apikey")
}

fn set(name: &str) -> Result<String, String> {
    let value = env::var(name).ok().filter(|value| !value.is_empty());
    value.ok_or_else(|| {
        let hint = spelling::hint(&[name]);
        format!("not set in the environment, or empty, or not UTF-8: {name}{hint}")
    })
}

#[cfg(feature = "command")]
fn command(kind: &str, args: &[OsString]) -> Result<TokenCache, String> {
    use tower_bearer::local::TokenCommand;

    let (command, args) = match (kind, args) {
        ("ibmcloud", args) => (TokenCommand::ibmcloud(), args),
        ("gcloud", args) => (TokenCommand::gcloud(), args),
        ("az", args) => (TokenCommand::az(), args),
        ("run", [program, args @ ..]) => (TokenCommand::new(program), args),
        ("exec-plugin", [program, args @ ..]) => (TokenCommand::exec_plugin(program), args),
        _ => return Err(USAGE.to_owned()),
    };
    Ok(TokenCache::new(command.args(args)))
}

#[cfg(not(feature = "command"))]
fn command(kind: &str, _: &[OsString]) -> Result<TokenCache, String> {
    Err(match kind {
        "ibmcloud" | "gcloud" | "az" | "run" | "exec-plugin" => {
            format!("{kind} runs a command, which needs `cargo run --features command …`")
        }
        _ => USAGE.to_owned(),
    })
}
