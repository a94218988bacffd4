//! A process, a token service, an API and a client. A test can wait for what each of them does, so it
//! never sleeps.

use std::{
    future::{Future, IntoFuture},
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    response::IntoResponse,
};
use futures_util::{Stream, stream};
use http::{HeaderMap, StatusCode, header::WWW_AUTHENTICATE};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    net::TcpListener,
    process::{Child, ChildStdout, Command},
    sync::{OnceCell, mpsc},
};
use tower_bearer::testing::{self, CLIENT_ID, Dialect, TokenService};

/// The client's secret: never to be seen again.
pub(crate) const HUSH: &str = "hunter2";

/// Waits for what must come, for 30 s at most.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it comes within 30 s")
}

// ===== The process =====

pub(crate) struct Sidecar {
    pub(crate) address: SocketAddr,
    /// Of upstreams with a port of their own, in the order of their names.
    pub(crate) others: Vec<SocketAddr>,
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    _dir: TempDir,
}

/// The program, built once.
async fn program() -> PathBuf {
    static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();
    PROGRAM.get_or_init(build).await.clone()
}

async fn build() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--example", "sidecar", "--all-features"])
        .args(["--message-format", "json"])
        .args(if cfg!(debug_assertions) { &[][..] } else { &["--release"] })
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit());
    let built = cargo.output().await.expect("cargo starts");
    assert!(built.status.success(), "the sidecar builds");
    let messages = String::from_utf8(built.stdout).expect("JSON is text");
    let executable = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "sidecar")
            .then(|| message["executable"].as_str())?
            .map(PathBuf::from)
    });
    executable.expect("cargo names what it has built")
}

/// The sidecar with that file and those arguments.
pub(crate) async fn command(dir: &TempDir, config: &str, args: &[&str]) -> Command {
    let path = dir.path().join("sidecar.toml");
    std::fs::write(&path, config).expect("there is room");
    let mut command = Command::new(program().await);
    command.arg("--config").arg(&path).args(args);
    command.env("SIDECAR_TEST_SECRET", HUSH).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// That command, as `"$@"` in a script.
#[cfg(unix)]
fn shell(script: &str, command: &Command) -> Command {
    let command = command.as_std();
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    shell
}

/// How it ended, and what it said.
pub(crate) async fn run(config: &str, args: &[&str]) -> (i32, String, String) {
    let dir = TempDir::new().expect("there is room");
    let mut command = command(&dir, config, args).await;
    let output = soon(command.output()).await.expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(!out.contains(HUSH) && !err.contains(HUSH), "{out}{err}");
    (output.status.code().expect("it was not killed"), out, err)
}

/// The log of a sidecar that is sent SIGTERM as soon as it listens.
pub(crate) async fn log(config: &str) -> String {
    let dir = TempDir::new().expect("there is room");
    let mut child = command(&dir, config, &[]).await.spawn().expect("it starts");
    let mut out = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    soon(out.next_line()).await.expect("it is text").expect("it listens");
    terminate(&child);
    let output = soon(child.wait_with_output()).await.expect("it can be waited for");
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stderr).expect("it is text")
}

fn terminate(child: &Child) {
    let id = child.id().expect("it runs").try_into().expect("an id is positive");
    let id = rustix::process::Pid::from_raw(id).expect("an id is not 0");
    rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it runs");
}

impl Sidecar {
    pub(crate) async fn start(config: &str) -> Self {
        Self::start_with(config, &[], &[]).await
    }

    pub(crate) async fn start_with(config: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().expect("there is room");
        let mut command = command(&dir, config, args).await;
        command.envs(env.iter().copied());
        Self::spawn(command, config, dir).await
    }

    /// With a limit of open files.
    #[cfg(unix)]
    pub(crate) async fn start_with_files(config: &str, files: u32) -> Self {
        let dir = TempDir::new().expect("there is room");
        let command = command(&dir, config, &[]).await;
        let limited = format!("ulimit -n {files} && exec \"$@\"");
        let command = shell(&limited, &command);
        Self::spawn(command, config, dir).await
    }

    async fn spawn(mut command: Command, config: &str, dir: TempDir) -> Self {
        let mut child = command.stderr(Stdio::inherit()).spawn().expect("it starts");
        let mut out = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let doors = 1 + config.matches("\nlisten = \"127.0.0.1:0\" # door").count();
        let mut addresses = Vec::new();
        while addresses.len() < doors {
            let line = soon(out.next_line()).await.expect("it is text").expect("it goes on");
            let address = line.strip_prefix("listening on http://").expect("an address");
            let address = address.split(' ').next().expect("a first word");
            addresses.push(address.parse().expect("an address"));
        }
        let others = addresses.split_off(1);
        Self { address: addresses[0], others, child, out, _dir: dir }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends it SIGTERM.
    pub(crate) fn terminate(&self) {
        terminate(&self.child);
    }

    /// The code that it exits with, and that it has said no more.
    pub(crate) async fn ended(mut self) -> Option<i32> {
        let status = soon(self.child.wait()).await.expect("it can be waited for");
        let mut remaining = String::new();
        self.out.into_inner().read_to_string(&mut remaining).await.expect("it is text");
        assert_eq!(remaining, "");
        status.code()
    }

    /// Waits until `/readyz` answers like this; what it says.
    pub(crate) async fn readiness(&self, status: StatusCode) -> String {
        self.page("/readyz", |now, _| now == status).await
    }

    /// Waits until that line is on the page of the metrics.
    pub(crate) async fn metric(&self, line: &str) {
        self.page("/metrics", |_, page| page.lines().any(|found| found == line)).await;
    }

    /// Asks for a page until it is like that; a round trip is what passes the time.
    pub(crate) async fn page(
        &self,
        path: &str,
        is_it: impl Fn(StatusCode, &str) -> bool,
    ) -> String {
        let client = client();
        let asking = async {
            loop {
                let request = http::Request::get(self.url(path)).body(Body::empty());
                let response = client.request(request.expect("a request")).await;
                let (status, text) = text(response.expect("there is an answer")).await;
                if is_it(status, &text) {
                    return text;
                }
            }
        };
        soon(asking).await
    }

    /// The most memory that it ever had, in KiB.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak_memory(&self) -> u64 {
        let id = self.child.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.expect("the line is there").parse().expect("a number")
    }
}

// ===== The client =====

pub(crate) fn client() -> Client<HttpConnector, Body> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Speaks HTTP/2 from the first byte.
pub(crate) fn http2_client() -> Client<HttpConnector, Body> {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

pub(crate) async fn send(request: http::Request<Body>) -> http::Response<hyper::body::Incoming> {
    soon(client().request(request)).await.expect("there is an answer")
}

pub(crate) async fn text(response: http::Response<hyper::body::Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let body = soon(response.into_body().collect()).await.expect("it is whole").to_bytes();
    (status, String::from_utf8(body.into()).expect("it is text"))
}

pub(crate) async fn get(url: &str) -> (StatusCode, String) {
    let request = http::Request::get(url).body(Body::empty()).expect("a request");
    text(send(request).await).await
}

pub(crate) async fn post_to(url: &str, body: impl Into<Body>) -> (StatusCode, String) {
    let request = http::Request::post(url).body(body.into()).expect("a request");
    text(send(request).await).await
}

// ===== Bodies =====

pub(crate) type Chunks = mpsc::UnboundedSender<Result<Bytes, std::io::Error>>;

/// A body that the test writes.
pub(crate) fn written() -> (Chunks, Body) {
    let (chunks, body) = mpsc::unbounded_channel();
    (chunks, Body::from_stream(received(body)))
}

pub(crate) fn received<T>(receiver: mpsc::UnboundedReceiver<T>) -> impl Stream<Item = T> {
    stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })
}

/// The next piece of a response.
pub(crate) async fn piece(body: &mut hyper::body::Incoming) -> Bytes {
    soon(body.frame()).await.expect("there is more").expect("no error").into_data().expect("data")
}

// ===== The services =====

pub(crate) async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    let address = listener.local_addr().expect("it has an address");
    tokio::spawn(axum::serve(listener, router).into_future());
    address
}

/// The token service of `testing`. It issues `t-1`, `t-2`, …; an API of the test's own can ask which
/// of them are valid.
#[derive(Clone)]
pub(crate) struct Tokens {
    world: Arc<testing::World>,
    /// The tokens up to this one are revoked.
    revoked: Arc<AtomicU64>,
}

impl Tokens {
    pub(crate) async fn start() -> Self {
        let world = testing::World::start().await.expect("there is a free port");
        world.tokens().set_secret(HUSH);
        Self { world: Arc::new(world), revoked: Arc::default() }
    }

    pub(crate) fn service(&self) -> &TokenService {
        self.world.tokens()
    }

    pub(crate) fn url(&self) -> String {
        self.service().url(Dialect::Rfc6749)
    }

    pub(crate) fn issued(&self) -> u64 {
        self.service().issued()
    }

    pub(crate) fn revoke_all(&self) {
        self.revoked.store(self.issued(), SeqCst);
    }

    /// The API's check.
    fn admits(&self, headers: &HeaderMap) -> bool {
        let line = headers.get("authorization").and_then(|line| line.to_str().ok());
        let nth = line.and_then(|line| line.strip_prefix("Bearer t-")?.parse().ok());
        nth.is_some_and(|nth| self.revoked.load(SeqCst) < nth && nth <= self.issued())
    }

    /// The configuration of a source that asks here.
    pub(crate) fn source(&self) -> String {
        format!(
            "[sources.local.oauth2]\nurl = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n\
             client_secret = {{ env = \"SIDECAR_TEST_SECRET\" }}\n",
            self.url()
        )
    }
}

/// 401 for everybody without a valid token. (The API of `testing` says neither which headers came nor
/// when a body does.)
pub(crate) fn guarded(tokens: &Tokens, router: Router) -> Router {
    let tokens = tokens.clone();
    router.layer(axum::middleware::from_fn(
        move |request: Request, next: axum::middleware::Next| {
            let admitted = tokens.admits(request.headers());
            async move {
                if admitted {
                    return next.run(request).await;
                }
                let challenge = [(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")];
                (StatusCode::UNAUTHORIZED, challenge).into_response()
            }
        },
    ))
}

/// Says what has arrived: method, URI, headers in their order, body.
pub(crate) async fn mirror(request: Request) -> String {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    let (method, uri, headers) = (parts.method, parts.uri, headers.collect::<String>());
    format!("{method} {uri}\n{headers}\n{}", String::from_utf8_lossy(&body))
}

/// A token service, and an API behind it at `/api`, in front of which a sidecar is to stand.
pub(crate) struct World {
    pub(crate) tokens: Tokens,
    pub(crate) api: SocketAddr,
}

impl World {
    pub(crate) async fn new(router: Router) -> Self {
        let tokens = Tokens::start().await;
        let api = serve(guarded(&tokens, router)).await;
        Self { tokens, api }
    }

    pub(crate) async fn mirroring() -> Self {
        Self::new(Router::new().fallback(mirror)).await
    }

    /// `top` is what stands above all tables.
    pub(crate) fn config(&self, top: &str) -> String {
        format!(
            "listen = \"127.0.0.1:0\"\n{top}\n{}\n[upstreams.api]\npath = \"/api\"\n\
             to = \"http://{}/base\"\nsource = \"local\"\n",
            self.tokens.source(),
            self.api
        )
    }
}
