//! The compiled examples as processes, and servers that write down what they are asked.

use std::{
    env,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::to_bytes,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use tokio::{net::TcpListener, process::Command};

pub(crate) const BOUND: Duration = Duration::from_secs(30);

// ===== Examples =====

/// A compiled example, in an environment with nothing in it but `PATH`: the variables and the
/// proxies of the caller's environment do not count.
pub(crate) fn example(name: &str) -> Command {
    // The tests are in `target/…/deps`, the examples are beside that.
    let tests = env::current_exe().unwrap();
    let profile = tests.parent().and_then(|deps| deps.parent()).unwrap();
    let program = profile.join("examples").join(name);
    assert!(
        program.is_file(),
        "{} is not there: `cargo test` builds it, but not if it is told which test to run; \
         then `cargo build --examples` does, with the same features",
        program.display()
    );
    let mut command = Command::new(program);
    command.env_clear().env("PATH", env::var_os("PATH").unwrap());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// How a process has ended, and what it has printed.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) async fn run(command: &mut Command) -> Ended {
    let output = tokio::time::timeout(BOUND, command.output()).await.expect("in time").unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ended {
    /// It did what it was asked and had nothing to say beside it.
    pub(crate) fn printed(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        self.stdout
    }

    /// It failed with this code and said why, with nothing among its output.
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{self:?}");
        self.stderr
    }
}

// ===== Servers =====

/// A server that writes down what it is asked.
pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` is given what the request looks like in [`seen`](Self::seen).
    pub(crate) async fn start(
        answer: impl Fn(&str) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let url = format!("http://{address}");
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let writes = Arc::clone(&seen);
        let router = Router::new().fallback(async move |request: Request| {
            let request = on_the_wire(request).await.replace(&address, "HOST");
            let answer = answer(&request);
            writes.lock().unwrap().push(request);
            answer
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, seen }
    }

    /// One that always answers this.
    pub(crate) async fn answering(status: u16, body: &'static str) -> Self {
        Self::start(move |_| (StatusCode::from_u16(status).unwrap(), body).into_response()).await
    }

    /// The requests so far, in order: head and body, the headers sorted by their names, the
    /// server itself as `HOST`.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// The only request.
    pub(crate) fn request(&self) -> String {
        let [request] = self.seen().try_into().expect("one request");
        request
    }
}

async fn on_the_wire(request: Request) -> String {
    let (head, body) = request.into_parts();
    let mut headers: Vec<_> = (head.headers.iter())
        .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
        .collect();
    headers.sort_unstable();
    let body = to_bytes(body, 1024 * 1024).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    format!("{} {}\n{}\n{body}", head.method, head.uri, headers.concat())
}
