//! Nothing that is shown anywhere has a secret in it: not the log of any crate in the process at its
//! most talkative, no `Debug` or `Display`, no chain of errors, no panic, no metric.

mod api;
mod endpoint;
mod output;
mod shown;
#[path = "../wiped/spellings.rs"]
mod spellings;

use std::time::Duration;

use tokio::time::timeout;

use self::output::Output;

const CLIENT_SECRET: &str = "zq4vt8mkx2pw &%\"\\/é+ rb7nl3cyd9fh";
const API_KEY: &str = "uj5we1sqo6ga &%\"\\/+= kn8hv2zxe4tm";
const HEADER_KEY: &str = "cy3rp7bfi9ld &%\"\\/+= as6uj1wgq5no";
const GIVEN: &str = "eyJ0.e30.hx8kr2vtm5zbq7wln4cpd1sgf6yj";
const SUBJECT: &str = "lg2fx5nvb8kc/+~=.ew9mq4trj7ys";
const ACTOR: &str = "ot1dm4hzc7wp &%\"\\/+= ik6vb9xfs2ug";
const ACCESS: &str = "ps7jy3qnw6xe/+~=.ot5bh8mvd1cz";
const REFRESH: &str = "ra4gu9klf2vx &%\"\\/+= hc7pm6nwt3zd";
const NEW_REFRESH: &str = "sb8ei5wqy1jt &%\"\\/+= lg4xn9vko2fr";
const SEAL: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
const KEY: &str = include_str!("../vectors/keys/p256.pem");

/// All but what is made while the program runs.
fn secrets() -> Vec<(&'static str, Vec<u8>)> {
    let fixed = [
        ("the client's secret", CLIENT_SECRET),
        ("the API key", API_KEY),
        ("the key in a header", HEADER_KEY),
        ("the assertion", GIVEN),
        ("the subject's token", SUBJECT),
        ("the actor's token", ACTOR),
        ("the access token", ACCESS),
        ("the refresh token", REFRESH),
        ("the new refresh token", NEW_REFRESH),
        ("the seal's key", SEAL),
        ("the private key", KEY),
    ];
    let lines = KEY.lines().filter(|line| !line.starts_with('-') && line.len() >= 16);
    let lines = lines.map(|line| ("a line of the private key", line.as_bytes().to_vec()));
    fixed
        .map(|(name, secret)| (name, secret.as_bytes().to_vec()))
        .into_iter()
        .chain(lines)
        .collect()
}

#[test]
fn the_search_finds_a_secret_in_every_spelling() {
    use base64::{Engine, prelude::BASE64_STANDARD};

    let secrets = [("one", CLIENT_SECRET.as_bytes().to_vec())];
    for shown in [
        format!("a {CLIENT_SECRET} b"),
        format!("a {CLIENT_SECRET:?} b"),
        format!("{:?}", CLIENT_SECRET.as_bytes()),
        serde_json::to_string(CLIENT_SECRET).unwrap(),
        url::form_urlencoded::byte_serialize(CLIENT_SECRET.as_bytes()).collect(),
        BASE64_STANDARD.encode(CLIENT_SECRET),
        BASE64_STANDARD.encode(format!("a{CLIENT_SECRET}b")),
        BASE64_STANDARD.encode(format!("ab{CLIENT_SECRET}")),
        // A piece of it is enough.
        CLIENT_SECRET[..15].to_owned(),
    ] {
        assert!(!output::found(&shown, &secrets).is_empty(), "{shown}");
    }
    assert!(output::found("nothing of the kind", &secrets).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_shown_by_the_log_by_errors_by_debug_by_panics_or_by_metrics() {
    let output = Output::capture();
    let walk = async {
        let made = endpoint::walk(&output).await;
        api::walk(&output).await;
        shown::walk(&output).await;
        made
    };
    let made = timeout(Duration::from_secs(120), walk).await.expect("it takes too long");
    output.take_metrics();

    let text = output.text();
    // All of them have spoken.
    for crate_ in ["tower_bearer", "hyper_util", "reqwest", "h2", "rustls", "tower_http"] {
        assert!(text.contains(&format!(" {crate_}")), "{crate_} says nothing");
    }
    let secrets: Vec<_> = secrets().into_iter().chain(made).collect();
    let found = output::found(&text, &secrets);
    assert!(found.is_empty(), "{found:#?}");
}
