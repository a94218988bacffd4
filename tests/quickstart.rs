//! The quickstart does what it says, to somebody who knows nothing but its command.

use std::{
    collections::HashMap,
    net::SocketAddr,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Form, Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;
use tokio::{net::TcpListener, process::Command, sync::OnceCell, time::timeout};

/// How long the quickstart may take, once built.
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn it_shows_a_cold_start_a_revocation_an_expiry_and_an_outage() {
    let output = quickstart(&[], &[]).await;
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    // Calls, fetches, replays, waited, failures.
    assert_eq!(row(&out, "cold start"), [1000, 1, 0, 1000, 0]);
    assert_eq!(row(&out, "revocation"), [1000, 1, 1000, 0, 0]);
    let [calls, fetches, others @ ..] = row(&out, "expiry");
    assert!(calls > 1000 && fetches >= 3, "{out}");
    assert_eq!(others, [0, 0, 0]);
    let [calls, others @ ..] = row(&out, "outage");
    assert!(calls > 100, "{out}");
    assert_eq!(others, [1, 0, 0, 0]);
}

#[tokio::test]
async fn it_makes_a_few_calls_to_a_real_api() {
    let services = Services::start().await;
    let output = services.call("s3cr3t").await;
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    assert_eq!(row(&out, "cold start")[..3], [5, 1, 0]);
    assert_eq!(row(&out, "warm"), [5, 0, 0, 0, 0]);
    assert_eq!(services.seen(), (1, 10));
}

#[tokio::test]
async fn what_did_not_happen_is_said_and_exits_with_1() {
    let services = Services::start().await;
    let output = services.call("mistyped").await;
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(out.contains("invalid_client"), "{out}");
    assert!(err.contains("did not happen: cold start: every call succeeded"), "{err}");
    assert!(!out.contains("mistyped") && !err.contains("mistyped"), "{out}{err}");
    assert_eq!(services.seen(), (0, 0));
}

#[tokio::test]
async fn wrong_arguments_are_answered_with_the_usage() {
    for args in [&["--loud"][..], &["--token-url"], &["--api-url", "https://api.example.com"]] {
        let output = quickstart(args, &[]).await;
        let (out, err) = texts(&output);
        assert_eq!((output.status.code(), out.as_str()), (Some(2), ""), "{args:?}");
        assert!(err.contains("usage: quickstart"), "{err}");
    }
}

#[tokio::test]
async fn an_api_url_that_names_no_origin_is_refused() {
    let args = ["--token-url", "https://auth.example.com", "--api-url", "/me"];
    let output = quickstart(&args, &[("CLIENT_ID", "me"), ("CLIENT_SECRET", "s3cr3t")]).await;
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), out.as_str()), (Some(2), ""));
    assert_eq!(err, "quickstart: --api-url is no http(s) URL\n");
}

#[tokio::test]
async fn missing_credentials_are_named_in_one_line() {
    let urls = ["--token-url", "https://auth.example.com", "--api-url", "https://api.example.com"];
    for (environment, line) in [
        (&[][..], "quickstart: CLIENT_ID and CLIENT_SECRET must be set in the environment\n"),
        (&[("CLIENT_ID", "me")], "quickstart: CLIENT_SECRET must be set in the environment\n"),
    ] {
        let output = quickstart(&urls, environment).await;
        let (out, err) = texts(&output);
        assert_eq!((output.status.code(), out.as_str()), (Some(2), ""));
        assert_eq!(err, line);
    }
}

// ===== Running it =====

/// Runs the command that everybody is told to run. To build it first may take its time.
async fn quickstart(args: &[&str], environment: &[(&str, &str)]) -> Output {
    static BUILT: OnceCell<()> = OnceCell::const_new();
    BUILT
        .get_or_init(|| async {
            let built = cargo("build").status().await.expect("cargo starts");
            assert!(built.success(), "the quickstart builds");
        })
        .await;
    let mut run = cargo("run");
    run.arg("--").args(args).envs(environment.iter().copied()).kill_on_drop(true);
    timeout(LIMIT, run.output()).await.expect("it ends in time").expect("cargo starts")
}

fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args([command, "--quiet", "--example", "quickstart"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    for name in ["CLIENT_ID", "CLIENT_SECRET", "SCOPE", "RUST_LOG"] {
        cargo.env_remove(name);
    }
    cargo
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The numbers of a phase in the table, without the latencies.
fn row(out: &str, phase: &str) -> [u64; 5] {
    let (_, table) = out.split_once("\nphase ").unwrap_or_else(|| panic!("no table in {out}"));
    let row = table.lines().find_map(|line| line.strip_prefix(phase));
    let row = row.unwrap_or_else(|| panic!("no row for {phase} in {table}"));
    let mut numbers = row.split_whitespace().map(|number| number.replace(',', "").parse());
    [(); 5].map(|()| numbers.next().expect("five numbers").expect("a number"))
}

// ===== Services that are not the quickstart's own =====

struct Services {
    address: SocketAddr,
    seen: Arc<Seen>,
}

/// What the two of them have answered with 200.
#[derive(Default)]
struct Seen {
    fetches: AtomicU64,
    calls: AtomicU64,
}

impl Services {
    async fn start() -> Self {
        let seen = Arc::<Seen>::default();
        let router = Router::new()
            .route("/token", post(token))
            .route("/me", get(api))
            .with_state(Arc::clone(&seen));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("it has an address");
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { address, seen }
    }

    async fn call(&self, client_secret: &str) -> Output {
        let token_url = format!("http://{}/token", self.address);
        let api_url = format!("http://{}/me?fields=name", self.address);
        let args = ["--token-url", &token_url, "--api-url", &api_url];
        let environment = [("CLIENT_ID", "me"), ("CLIENT_SECRET", client_secret), ("SCOPE", "a b")];
        quickstart(&args, &environment).await
    }

    /// How many tokens were handed out, and how many calls accepted.
    fn seen(&self) -> (u64, u64) {
        let Seen { fetches, calls } = &*self.seen;
        (fetches.load(Ordering::Relaxed), calls.load(Ordering::Relaxed))
    }
}

async fn token(
    State(seen): State<Arc<Seen>>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let is_known = headers["authorization"] == "Basic bWU6czNjcjN0"; // me:s3cr3t
    if !is_known || form["grant_type"] != "client_credentials" || form["scope"] != "a b" {
        let error = Json(json!({ "error": "invalid_client" }));
        return (StatusCode::UNAUTHORIZED, error).into_response();
    }
    seen.fetches.fetch_add(1, Ordering::Relaxed);
    Json(json!({ "access_token": "abc", "expires_in": 3600 })).into_response()
}

async fn api(State(seen): State<Arc<Seen>>, headers: HeaderMap) -> StatusCode {
    if headers["authorization"] != "Bearer abc" {
        return StatusCode::UNAUTHORIZED;
    }
    seen.calls.fetch_add(1, Ordering::Relaxed);
    StatusCode::OK
}
