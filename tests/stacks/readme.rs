//! The README's and the guide's stacks as they are pasted: over TLS the API gets the token; a listener without TLS
//! in the API's place gets nothing of it.
//!
//! Each block runs in a process of its own, where `SSL_CERT_FILE` names the private authorities:
//! so the block's own choice of roots is tested too.

mod blocks;

use std::{env, fs, process::Stdio};

use axum::Router;
use rcgen::Certificate;
use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::{
    loopback::{Tokens, grpc, protected_api, tls, token_service},
    plain_listener::{PlainListener, leak},
    world::bounded,
};

/// Tokens that are not in random bytes by chance.
const PREFIX: &str = "mF_9.B5f-4.1JqM-";
const TOKEN: &str = "mF_9.B5f-4.1JqM-1";

// ===== The blocks =====

#[tokio::test]
async fn the_first_program_sends_its_token_over_tls_alone() {
    over_tls("first_program", protected_api, "200 OK\n").await;
    assert_eq!(without_tls("first_program").await, 1);
}

#[tokio::test]
async fn hyper_util_sends_its_token_over_tls_alone() {
    over_tls("hyper_util", protected_api, "200 OK\n").await;
    assert_eq!(without_tls("hyper_util").await, 1);
}

#[tokio::test]
async fn reqwest_sends_its_token_over_tls_alone() {
    let printed = format!("POST /v1/reports with {TOKEN}: a report\n");
    over_tls("reqwest", protected_api, &printed).await;
    assert_eq!(without_tls("reqwest").await, 1);
}

#[cfg(feature = "reqwest-middleware")]
#[tokio::test]
async fn reqwest_middleware_sends_its_token_over_tls_alone() {
    let printed = format!("GET /v1/invoices with {TOKEN}: \n");
    over_tls("reqwest_middleware", protected_api, &printed).await;
    assert_eq!(without_tls("reqwest_middleware").await, 1);
}

#[tokio::test]
async fn tonic_sends_its_token_over_tls_alone() {
    over_tls("tonic", grpc::server, &format!("hello, world with {TOKEN}\n")).await;
    assert_eq!(without_tls("tonic").await, 0, "it connects before it asks for a token");
}

#[tokio::test]
async fn axum_sends_its_token_over_tls_alone() {
    over_tls("axum", protected_api, &format!("GET /v1/invoices with {TOKEN}: \n")).await;
    assert_eq!(without_tls("axum").await, 1);
}

#[test]
fn what_runs_here_is_what_the_readme_and_the_guide_say() {
    for (page, heading, runs) in blocks::TEXTS {
        assert_eq!(pasted(page, heading), runs, "{heading}");
    }
}

#[test]
fn the_versions_that_the_guide_names_are_those_that_are_tested() {
    let manifest: toml::Table = include_str!("../../Cargo.toml").parse().unwrap();
    let tested = |name: &str| {
        let tables = ["dependencies", "dev-dependencies"].map(|table| &manifest[table]);
        let found = tables.into_iter().find_map(|table| table.get(name)).expect(name);
        found.as_str().or_else(|| found.get("version")?.as_str()).expect(name).to_owned() + "."
    };
    let lines = blocks::README.lines().chain(blocks::STACKS.lines());
    let words = lines.filter_map(|line| line.strip_prefix("cargo add ")).flat_map(|line| {
        line.split(' ').filter(|word| !word.starts_with("--") && !word.contains(','))
    });
    let mut named = 0;
    for (name, version) in words.filter_map(|word| word.split_once('@')) {
        assert!(tested(name).starts_with(&format!("{version}.")), "{name}: {}", tested(name));
        named += 1;
    }
    assert!(named > 10, "{named}");
}

/// The block below a heading of a page, with `url!` around each URL.
fn pasted(page: &str, heading: &str) -> String {
    let (_, section) = page.split_once(heading).expect(heading);
    let (_, block) = section.split_once("```rust,no_run\n").expect("a block");
    let (block, _) = block.split_once("```").expect("its end");
    let parts = block.split('"').enumerate().map(|(place, part)| match place % 2 {
        0 => part.to_owned(),
        _ if part.starts_with("https://") => format!("url!(\"{part}\")"),
        _ => format!("\"{part}\""),
    });
    parts.collect()
}

// ===== Their world =====

/// Runs a block, with an API that speaks TLS. It prints that.
async fn over_tls(block: &str, api: fn(&Tokens) -> Router, printed: &str) {
    let tokens = Tokens::with_prefix(PREFIX);
    let (api, authority) = tls::serve(api(&tokens)).await.unwrap();
    let (succeeded, output) = run(block, &tokens, &api, &[authority]).await;
    assert!(succeeded && output.contains(printed), "{output}");
    assert_eq!(tokens.shown(), [TOKEN]);
}

/// Runs a block, with a listener in place of its API that gets nothing of the token. Says how many
/// tokens the block had at hand.
async fn without_tls(block: &str) -> usize {
    let tokens = Tokens::with_prefix(PREFIX);
    let listener = PlainListener::start().await;
    let (succeeded, output) = run(block, &tokens, &listener.https(), &[]).await;
    assert!(!succeeded, "{output}");
    // The process is gone, and its connections with it.
    let received = listener.received().await;
    assert!(!received.is_empty(), "it did not come: {output}");
    for bytes in received {
        assert_eq!(leak(&bytes, TOKEN), None, "{output}");
    }
    tokens.issued()
}

/// Runs a block in a process of its own, which trusts those authorities and that of a token
/// service. Says whether it succeeded, and what it printed.
async fn run(
    block: &str,
    tokens: &Tokens,
    api: &str,
    authorities: &[Certificate],
) -> (bool, String) {
    let token_service = Router::new().nest("/oauth", token_service(tokens));
    let (auth, authority) = tls::serve(token_service).await.unwrap();
    let roots = NamedTempFile::new().unwrap();
    let pems: String = authorities.iter().chain([&authority]).map(Certificate::pem).collect();
    fs::write(&roots, pems).unwrap();

    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", blocks::RUN, "--ignored", "--nocapture"])
        .env_clear()
        .env(blocks::BLOCK, block)
        .env(blocks::API, api)
        .env(blocks::AUTH, auth)
        .env("CLIENT_SECRET", "s3cr3t")
        .env("SSL_CERT_FILE", roots.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = bounded(command.output()).await.unwrap();
    let printed = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.success(), printed.concat())
}
