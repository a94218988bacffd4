//! The quickstart does what it says, run by the command that the README gives.

use std::{
    collections::HashMap,
    fs,
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
use tokio::{
    net::TcpListener,
    process::Command,
    sync::{Mutex, OnceCell},
    time::timeout,
};

/// How long the quickstart may take, once built.
const LIMIT: Duration = Duration::from_secs(30);

/// Held while calls are made steadily: two such loads would slow each other down.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn it_shows_a_cold_start_a_revocation_an_expiry_and_an_outage() {
    let _alone = ALONE.lock().await;
    let (output, page) = with_page(&[], &[]).await;
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

    for phase in ["cold start", "revocation", "expiry", "outage"] {
        page.is_of(&out, phase);
    }
    assert_eq!(page.count("revocation", "mark rejected", "v8"), 1000);
    assert!(page.count("outage", "mark refused", "m-8 0l8 -8") >= 4);
    assert_eq!(page.count("outage", "<rect class=\"down\"", "<rect"), 1);
    page.fetches_nothing();
}

#[tokio::test]
async fn beside_a_mutex_no_call_waits_for_an_expiry_and_a_revocation_costs_one_fetch() {
    let _alone = ALONE.lock().await;
    let (output, page) = with_page(&["--against-mutex"], &[]).await;
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    let [_, fetches, replays, ..] = row(&out, "revocation ");
    assert!(fetches == 1 && replays >= 1, "{out}");
    let [_, _, _, waited, failures] = row(&out, "expiry ");
    assert_eq!([waited, failures], [0, 0], "{out}");
    let [_, _, _, waited, _] = row(&out, "expiry, mutex");
    assert!(waited >= 1, "{out}");
    assert_eq!(page.html.matches("<svg").count(), 2);
    page.fetches_nothing();
}

#[tokio::test]
async fn it_makes_a_few_calls_to_a_real_api() {
    let services = Services::start().await;
    let (output, page) = services.call("s3cr3t").await;
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    page.has_row_of(&out, "warm");
    page.fetches_nothing();
    assert_eq!(row(&out, "cold start")[..3], [5, 1, 0]);
    assert_eq!(row(&out, "warm"), [5, 0, 0, 0, 0]);
    assert_eq!(services.seen(), (1, 10));
}

#[tokio::test]
async fn what_did_not_happen_is_said_and_exits_with_1() {
    let services = Services::start().await;
    let (output, page) = services.call("mistyped").await;
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(out.contains("invalid_client: who is <b>me</b>?"), "{out}");
    assert!(page.html.contains("invalid_client: who is &lt;b&gt;me&lt;/b&gt;?"), "{}", page.html);
    assert!(
        page.html.contains("Some checks failed") && !page.html.contains("<b>"),
        "{}",
        page.html
    );
    assert!(err.contains("check failed: cold start: every call succeeded"), "{err}");
    assert!(!out.contains("mistyped") && !err.contains("mistyped"), "{out}{err}");
    assert_eq!(services.seen(), (0, 0));
}

#[tokio::test]
async fn wrong_arguments_are_answered_with_the_usage() {
    for args in [
        &["--loud"][..],
        &["--token-url"],
        &["--html"],
        &["--api-url", "https://api.example.com"],
        &["--against-mutex", "--token-url", "https://auth.example.com", "--api-url", "/me"],
    ] {
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
    assert_eq!(err, "quickstart: --api-url is not an absolute http or https URL\n");
}

#[tokio::test]
async fn missing_credentials_are_named_in_one_line() {
    let urls = ["--token-url", "https://auth.example.com", "--api-url", "https://api.example.com"];
    for (environment, line) in [
        (&[][..], "quickstart: set CLIENT_ID and CLIENT_SECRET in the environment\n"),
        (&[("CLIENT_ID", "me")], "quickstart: set CLIENT_SECRET in the environment\n"),
    ] {
        let output = quickstart(&urls, environment).await;
        let (out, err) = texts(&output);
        assert_eq!((output.status.code(), out.as_str()), (Some(2), ""));
        assert_eq!(err, line);
    }
}

// ===== Running it =====

/// Runs the command of the README. The build before it has no time limit.
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

/// The same, with the page that it writes.
async fn with_page(args: &[&str], environment: &[(&str, &str)]) -> (Output, Page) {
    let folder = tempfile::tempdir().expect("a folder for the page");
    let path = folder.path().join("report.html");
    let path = path.to_str().expect("its name is text");
    let output = quickstart(&[&["--html", path], args].concat(), environment).await;
    let html = fs::read_to_string(path).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output, Page { html })
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

/// The cells of a phase in the table: the name and what `row` has, then the latencies.
fn cells(out: &str, phase: &str) -> Vec<String> {
    let (_, table) = out.split_once("\nphase ").expect("there is a table");
    let row = table.lines().find_map(|line| line.strip_prefix(phase)).expect("it has that row");
    let words: Vec<_> = row.split_whitespace().collect();
    let latencies = words[5..].chunks(2).map(|latency| latency.join(" "));
    let numbers = words[..5].iter().map(ToString::to_string);
    [phase.to_owned()].into_iter().chain(numbers).chain(latencies).collect()
}

// ===== The page that it writes =====

struct Page {
    html: String,
}

impl Page {
    /// The numbers are those of the printed table, and the picture has a dot for each call and a
    /// mark for each fetch.
    fn is_of(&self, out: &str, phase: &str) {
        self.has_row_of(out, phase);
        let [calls, fetches, ..] = row(out, phase);
        assert_eq!(self.count(phase, "class=\"dots", "h0"), calls, "{phase}");
        assert_eq!(self.count(phase, "mark fetched", "h8"), fetches, "{phase}");
    }

    fn has_row_of(&self, out: &str, phase: &str) {
        let row = format!("<td>{}</td>", cells(out, phase).join("</td><td>"));
        assert!(self.html.contains(&row), "{row} is not in {}", self.html);
    }

    /// How often that shape is in those lines of a phase's picture, its legend left out.
    fn count(&self, phase: &str, line: &str, shape: &str) -> u64 {
        let start = format!("<svg id=\"{}\"", phase.replace(' ', "-"));
        let (_, picture) = self.html.split_once(&start).expect("each phase has a picture");
        let (picture, _) = picture.split_once("</g>").expect("a picture has a panel");
        let lines = picture.lines().filter(|found| found.contains(line));
        lines.map(|found| found.matches(shape).count() as u64).sum()
    }

    /// Nothing in it makes a browser ask a network or run anything.
    fn fetches_nothing(&self) {
        for way in ["<script", "<link", "<img", "<iframe", "src=", "href=", "url(", "@import"] {
            assert!(!self.html.contains(way), "{way} is in {}", self.html);
        }
    }
}

// ===== Services that are not the quickstart's own =====
//
// Those of `testing` check no scope, and have no HTML in their errors.

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

    async fn call(&self, client_secret: &str) -> (Output, Page) {
        let token_url = format!("http://{}/token", self.address);
        let api_url = format!("http://{}/me?fields=name", self.address);
        let args = ["--token-url", &token_url, "--api-url", &api_url];
        let environment = [("CLIENT_ID", "me"), ("CLIENT_SECRET", client_secret), ("SCOPE", "a b")];
        with_page(&args, &environment).await
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
        let said = "who is <b>me</b>?";
        let error = Json(json!({ "error": "invalid_client", "error_description": said }));
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
