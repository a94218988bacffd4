//! A reverse proxy on this machine that adds the token to each request, for programs in any
//! language.
//!
//! ```text
//! cargo run --example sidecar --features command,jwt,metrics,redis,serde -- --config sidecar.toml
//! curl http://127.0.0.1:8080/kms/keys      # goes to https://…/api/v2/keys, with a token
//! ```
//!
//! `sidecar.example.toml` beside this file documents every setting.
//!
//! # What it does with a request
//!
//! - The first part of the path, or the port, selects the upstream. A `Host` field or an absolute
//!   URI never does. The sidecar's own names are those of the loopback, the address that the client
//!   connected to, and the names in `hosts`. If a request names any other host, the sidecar refuses
//!   it with 421. If a browser sends it for a page of another origin (`Origin`, `Sec-Fetch-Site`),
//!   the sidecar refuses it with 403.
//! - It replaces `Authorization`. Many clients insist on sending one, and theirs is not meant for
//!   the upstream.
//! - It forwards method, query, header fields, bodies and trailers unchanged, and streams in both
//!   directions. It removes the fields for one hop (RFC 9110 §7.6.1). It does not forward `TRACE`,
//!   `CONNECT` or upgrades.
//! - After a 401 it sends the request again, once, with a new token, if the body has at most
//!   `replay.per_request` bytes and `replay.total` has room for it. If not, the client gets the
//!   401.
//! - If the client or the upstream disconnects, the sidecar closes the other side too.
//!
//! | answer | why |
//! | --- | --- |
//! | 400, 403, 405, 421, 501 | the sidecar does not forward such a request |
//! | 401, with `WWW-Authenticate` and a text of the sidecar | the user's token is missing or invalid: see below |
//! | 404 | no upstream has this path |
//! | 502 | the sidecar cannot reach the upstream, or the upstream broke the connection |
//! | 503 | there is no token; `Retry-After` says when to ask again, if the sidecar knows |
//!
//! # On behalf of users
//!
//! For an upstream with `on_behalf_of = true` the sidecar exchanges the bearer token of each
//! request for a token of that user (`token_exchange`, or Microsoft Entra's on-behalf-of flow). It
//! never forwards the incoming token. It keeps, refreshes and renews each user's token separately.
//! If a request does not have exactly one bearer token, the sidecar answers 401, and neither
//! fetches nor sends anything. It never uses the program's own token instead, because such a source
//! has none. If the token service refuses the user's token, or requires the user to log in again,
//! the challenge of the 401 says so (`invalid_token`, `insufficient_claims` with `claims`).
//!
//! The sidecar does not validate the user's token. The token service does, at each exchange. Until
//! the next exchange the sidecar serves every request that carries the same token, but never past
//! the expiry of a JWT. So limit who can connect. Each token that the sidecar has not seen before
//! also costs an exchange.
//!
//! # Several sidecars
//!
//! Sidecars with the same `store`, a directory of this host or a Redis server, share the tokens of
//! sources that have the same name: one sidecar fetches for all. The store also keeps a refresh
//! token that the token service rotates. While the store is unavailable, each sidecar fetches for
//! itself.
//!
//! # Connections
//!
//! `connections` limits the number of connections, the time that the headers of a request may take,
//! and the time between requests. When there are too many connections, the sidecar closes one that
//! has had no request for half a second. If there is none, new clients wait. The sidecar speaks
//! HTTP/2 with a client that begins with its preface. It sends `PING` to find clients that no
//! longer respond.
//!
//! # Pages
//!
//! `/healthz` answers as long as the program runs. `/readyz` answers 200 if there is a usable token
//! for every upstream, and otherwise 503 with the reason; an upstream on behalf of users needs
//! none. `/metrics` is for Prometheus, and `dashboard.json` beside this file shows the numbers in
//! Grafana.
//!
//! The sidecar prints its addresses to standard output and logs to standard error. `RUST_LOG`
//! filters the log; the default is `warn,sidecar=info`. The sidecar logs a warning for each address
//! that other machines can connect to, because every client that can connect can use the tokens.
//!
//! On `SIGTERM` the sidecar accepts no more connections, waits up to `drain_seconds` for the
//! requests in progress, and exits with 0. It does not wait for idle connections. It logs the begin
//! and the end of that time. `--check` fetches a token from every source, prints one line for each,
//! and exits with 1 if one failed. It skips sources that exchange the tokens of users. If the
//! configuration is invalid, the sidecar prints one line and exits with 2, before it listens.

mod activity;
mod admission;
mod answer;
mod args;
mod budget;
#[path = "../common/challenge.rs"]
mod challenge;
mod check;
mod config;
mod connection;
mod connections;
mod connector;
mod error;
mod forward;
mod headers;
mod held;
mod meter;
mod pages;
mod path;
mod plan;
mod replay;
mod server;
mod store;
mod tokens;
mod upstream;

use std::{io, process::ExitCode};

use tracing_subscriber::EnvFilter;

use self::{args::Command, config::File, plan::Plan};

/// The log filter if `RUST_LOG` is not set.
const DEFAULT_FILTER: &str = "warn,sidecar=info";

#[tokio::main]
async fn main() -> ExitCode {
    let args = match Command::parse(std::env::args_os().skip(1)) {
        Ok(Command::Serve(args)) => args,
        Ok(Command::Print(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(2, &error),
    };
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();

    let plan = match File::read(&args.config) {
        Ok(file) => Plan::of(file, args.allow_commands).await,
        Err(error) => Err(error),
    };
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => return fail(2, &format!("{}: {error}", args.config.display())),
    };
    if args.check {
        return check::run(&plan).await;
    }
    match server::run(plan, args.bare).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

fn fail(code: u8, error: &str) -> ExitCode {
    eprintln!("sidecar: {error}");
    ExitCode::from(code)
}
