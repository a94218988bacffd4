//! Each example runs, and shows what it says.

use std::{env, process::Stdio};

use tokio::process::Command;

use crate::world::bounded;

/// Runs a compiled example, in an environment with no proxies in it.
async fn run(name: &str) -> String {
    // The tests are in `target/…/deps`, the examples are beside that.
    let tests = env::current_exe().unwrap();
    let profile = tests.parent().and_then(|deps| deps.parent()).unwrap();
    let mut command = Command::new(profile.join("examples").join(name));
    command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
    let output = bounded(command.output()).await.expect("`cargo build --examples` makes it");
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success() && err.is_empty(), "{out}{err}");
    out
}

#[tokio::test]
async fn the_hyper_util_example_prints_its_calls() {
    let shown = "GET /invoices/1 with t1: \nGET /invoices/2 with t2: \n2 tokens were fetched\n";
    assert_eq!(run("stack_hyper_util").await, shown);
}

const REPORTS: &str = "POST /reports with t1: a first report\n\
                       POST /reports with t2: a second report\n\
                       2 tokens were fetched\n";

#[tokio::test]
async fn the_reqwest_example_prints_its_calls() {
    assert_eq!(run("stack_reqwest").await, REPORTS);
}

#[cfg(feature = "reqwest-middleware")]
#[tokio::test]
async fn the_reqwest_middleware_example_prints_its_calls() {
    assert_eq!(run("stack_reqwest_middleware").await, REPORTS);
}

#[tokio::test]
async fn the_tonic_example_prints_its_calls() {
    let shown = "unary: hello, world with t1\n\
                 streamed, and rejected once: hello, Ada Grace with t2\n\
                 rejected in the trailers\n\
                 again: [\"hello\", \"with t3\"]\n\
                 3 tokens were fetched\n";
    assert_eq!(run("stack_tonic").await, shown);
}

#[tokio::test]
async fn the_axum_example_prints_its_calls() {
    let shown = "POST /reports/january with t1: numbers\n\
                 POST /reports/february with t2: numbers\n\
                 2 tokens were fetched\n";
    assert_eq!(run("stack_axum").await, shown);
}

#[tokio::test]
async fn the_redirects_example_prints_its_calls() {
    let shown = run("stack_redirects").await;
    assert!(shown.starts_with("above, by default: no access token may go to http://"), "{shown}");
    let end = "above, sent bare: 401 Unauthorized\n\
                below: 401 Unauthorized\n\
                the other host was shown: none, none\n\
                1 token was fetched\n";
    assert!(shown.ends_with(end), "{shown}");
}

#[tokio::test]
async fn the_layer_order_example_prints_its_calls() {
    let shown = "a cold start: 20 calls at once over one permit, 1 fetched so far\n\
                 a revocation: 20 calls at once over one permit, 2 fetched so far\n";
    assert_eq!(run("stack_layer_order").await, shown);
}
