//! A reverse proxy on this machine that puts the token on: for programs in any language.
//!
//! ```text
//! cargo run --example sidecar --features command,metrics,redis,serde -- --config sidecar.toml
//! curl http://127.0.0.1:8080/kms/keys      # goes to https://…/api/v2/keys, with a token
//! ```
//!
//! `sidecar.example.toml` beside this file documents what the configuration can say.
//!
//! # What it does with a request
//!
//! - The path's first part, or the port, says which upstream it is for, and that alone: never
//!   a `Host` or an absolute URI. A request that names another host than the loopback, the
//!   address that it came in by, or one of `hosts`, is refused with 421, and one that a browser
//!   sends for a page of another origin (`Origin`, `Sec-Fetch-Site`) with 403.
//! - `Authorization` is replaced. Many clients insist on sending one, and whatever they send is
//!   not meant for the upstream.
//! - Method, query, header fields, bodies and trailers go on as they are, both ways and as they
//!   come; fields for one hop are taken out (RFC 9110 §7.6.1). `TRACE`, `CONNECT` and upgrades
//!   are not forwarded.
//! - After a 401 it is sent again, once, with a new token, if its body is within
//!   `replay.per_request` bytes and there is room in `replay.total`. If not, it is sent all the
//!   same, and the 401 is the answer.
//! - Whoever hangs up, on either side, hangs up on the other.
//!
//! | answer | why |
//! | --- | --- |
//! | 400, 403, 405, 421, 501 | the request cannot be forwarded |
//! | 401, with `WWW-Authenticate` and a text of the sidecar's | there is no user's token, or it is no good: see below |
//! | 404 | no upstream has this path |
//! | 502 | the upstream cannot be reached, or broke off |
//! | 503 | no token can be had; `Retry-After` says when to ask again, if that is known |
//!
//! # On behalf of users
//!
//! An upstream with `on_behalf_of = true` gets a token of the user's: the bearer token of each
//! request is exchanged for it (`token_exchange`, or Microsoft Entra's on-behalf-of flow), and is
//! itself never forwarded. Each user's token is kept, refreshed and renewed by itself. A request
//! without exactly one bearer token is answered with 401: nothing is fetched and nothing sent. It
//! never gets the program's own token, because such a source has none. If the token service
//! refuses the user's token, or wants the user to log in again, the challenge of the 401 says so
//! (`invalid_token`, `insufficient_claims` with `claims`).
//!
//! The sidecar does not validate the user's token. The token service does, each time that it
//! exchanges it. In between, whoever sends the same token is served with what came of it, though
//! not past the end of a JWT. So let those connect alone who may; also because each token that was
//! never seen before costs an exchange.
//!
//! # Several sidecars
//!
//! Sidecars with the same `store`, a directory of this host or a Redis server, share what their
//! sources of the same name fetch: one of them fetches for all, and a refresh token that the token
//! service rotates is in the store. While the store is away each fetches for itself.
//!
//! # Connections
//!
//! There is a limit to their number, to the time that headers take and to the time between
//! requests (`connections`). Where there is no room for another, one on which nothing has been under
//! way for half a second makes it; if there is none, whoever connects waits. HTTP/2 is spoken
//! with whoever begins with its preface; `PING` finds clients that do not answer.
//!
//! # Pages
//!
//! `/healthz` answers as long as the program runs, `/readyz` with 200 if there is a usable token
//! for every upstream and else with 503 and why (an upstream on behalf of users needs none),
//! `/metrics` for Prometheus. `dashboard.json` beside this file shows the numbers in Grafana.
//!
//! The addresses go to the standard output, the log to the standard error. `RUST_LOG` says what is
//! logged; without it that is `warn,sidecar=info`. There is a warning for each address that other
//! machines can connect to, since whoever can connect can use the tokens.
//!
//! On `SIGTERM` it accepts no more, gives what is under way `drain_seconds` to end, and exits
//! with 0; it does not wait for connections on which nothing is under way. The log says when that
//! begins and when it has ended. `--check` fetches a token from every source, says in a line each
//! how that went, and exits with 1 if one failed; a source that exchanges the tokens of users is
//! not tried. A configuration that cannot be is told in one line, with exit code 2, before anything
//! listens.

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

/// What is logged if `RUST_LOG` does not say it.
const LOGGED: &str = "warn,sidecar=info";

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
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
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
