//! Tokens that are revoked, or that cannot be had.

use axum::body::Body;
use futures_util::future::join_all;
use http::{Request, StatusCode};

use tower_bearer::testing::{CLIENT_ID, Failure};

use crate::support::{HUSH, Sidecar, World, get, run, send, soon, text};

#[tokio::test]
async fn a_hundred_calls_after_a_revocation_cost_one_fetch_and_all_succeed() {
    let world = World::mirroring().await;
    let sidecar = Sidecar::start(&world.config("")).await;
    sidecar.readiness(StatusCode::OK).await;
    world.tokens.revoke_all();
    let url = sidecar.url("/api");
    let answers = join_all((0..100).map(|_| get(&url))).await;
    assert!(answers.iter().all(|(status, _)| *status == 200));
    assert_eq!(world.tokens.issued(), 2);
}

#[tokio::test]
async fn a_token_service_that_is_down_at_the_start_is_reported_and_waited_for() {
    let world = World::mirroring().await;
    world.tokens.service().fail(Failure::Status(503));
    let sidecar = Sidecar::start(&world.config("")).await;
    soon(world.tokens.service().until_fetches(3)).await;
    let is_told = |status, text: &str| status == 503 && !text.contains("being fetched");
    let why = sidecar.page("/readyz", is_told).await;
    assert!(
        why.starts_with("api: no usable token from `local`: the token endpoint http://"),
        "{why}"
    );
    assert!(!why.contains(HUSH), "{why}");

    let request = Request::get(sidecar.url("/api")).body(Body::empty()).unwrap();
    let response = send(request).await;
    let wait = response.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap();
    assert!((1..=16).contains(&wait), "{wait}");
    let (status, said) = text(response).await;
    assert_eq!(status, 503);
    assert!(said.starts_with("no access token for `api`: local: the token endpoint"), "{said}");

    // It recovers without a request.
    world.tokens.service().recover();
    assert_eq!(sidecar.readiness(StatusCode::OK).await, "ready\n");
    assert_eq!(get(&sidecar.url("/api")).await.0, 200);
}

#[tokio::test]
async fn a_check_fetches_from_every_source() {
    let world = World::mirroring().await;
    let (code, out, err) = run(&world.config(""), &["--check"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("local: ok, a token for 35"), "{out}");
    assert_eq!((out.lines().count(), world.tokens.issued()), (1, 1));
}

#[tokio::test]
async fn a_check_says_in_a_line_what_is_wrong() {
    let world = World::mirroring().await;
    let wrong = world.config("").replace(CLIENT_ID, "nobody");
    let (code, out, _) = run(&wrong, &["--check"]).await;
    let expected = format!(
        "local: the token endpoint {} refused (HTTP 401 Unauthorized): invalid_client: \
         the client is unknown or its secret is wrong\n",
        world.tokens.url()
    );
    assert_eq!((code, out), (1, expected));
}

#[tokio::test]
async fn a_token_may_come_from_a_file_or_from_a_command_that_was_allowed() {
    let world = World::mirroring().await;
    let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&file, "t-1").unwrap();
    let upstream = format!(
        "\n[upstreams.api]\npath = \"/api\"\nto = \"http://{}\"\nsource = \"local\"\n",
        world.api
    );
    let listen = "listen = \"127.0.0.1:0\"\n";
    let from_file = format!("{listen}[sources.local]\ntoken = {{ file = {file:?} }}{upstream}");
    let from_command = format!("{listen}[sources.local]\ncommand = [\"echo\", \"t-1\"]{upstream}");
    // The API knows this token.
    assert_eq!(run(&world.config(""), &["--check"]).await.0, 0);

    let sidecar = Sidecar::start(&from_file).await;
    assert_eq!(get(&sidecar.url("/api")).await.0, 200);
    let sidecar = Sidecar::start_with(&from_command, &["--allow-commands"], &[]).await;
    assert_eq!(get(&sidecar.url("/api")).await.0, 200);

    let (code, out, err) = run(&from_command, &[]).await;
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(
        err.ends_with(
            "`sources.local`: `command` runs a program: start the sidecar with --allow-commands\n"
        ),
        "{err}"
    );
}
