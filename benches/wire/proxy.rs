//! Proxies in front of the API, each a process that ends when it is dropped.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use http::Uri;

pub(crate) struct Proxy {
    child: Child,
    uri: Uri,
}

impl Proxy {
    /// The sidecar of the examples, which puts a token from its environment on each request.
    pub(crate) fn sidecar(program: &OsStr, api: SocketAddr, arguments: &[&str]) -> Option<Self> {
        let config = format!(
            "listen = \"127.0.0.1:0\"\n[sources.local]\ntoken = {{ env = \"TOKEN\" }}\n\
             [upstreams.api]\npath = \"/api\"\nto = \"http://{api}\"\nsource = \"local\"\n"
        );
        let config = file("sidecar.toml", &config);
        // Benchmarks run in the folder of their package.
        let program = if Path::new(program).is_relative() {
            Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(program)
        } else {
            program.into()
        };
        let mut command = Command::new(program);
        command.arg("--config").arg(config).args(arguments).env("TOKEN", "x".repeat(1024));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        let says = |line: std::io::Result<String>| {
            let line = line.ok()?;
            let address = line.strip_prefix("listening on http://")?.split(' ').next()?;
            Some(address.to_owned())
        };
        let address = out.lines().find_map(says).expect("it says where it listens");
        Some(Self { child, uri: uri(&format!("http://{address}/api/v1/invoices")) })
    }

    /// nginx as a plain reverse proxy that keeps its connections and adds a header.
    pub(crate) fn nginx(api: SocketAddr) -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = free.local_addr().expect("it is bound");
        drop(free);
        let (folder, token) = (folder(), "x".repeat(1024));
        let folder = folder.display();
        let config = format!(
            "daemon off; worker_processes auto; pid {folder}/nginx.pid; error_log /dev/null;
             events {{ worker_connections 1024; }}
             http {{
               access_log off; keepalive_requests 100000000;
               client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
               fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
               upstream api {{ server {api}; keepalive 256; keepalive_requests 100000000; }}
               server {{
                 listen {address};
                 location / {{
                   proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection '';
                   proxy_set_header Authorization 'Bearer {token}';
                 }}
               }}
             }}"
        );
        let mut command = Command::new("nginx");
        command.arg("-c").arg(file("nginx.conf", &config));
        let child = command.stderr(Stdio::null()).spawn().ok()?;
        for _ in 0..500 {
            if TcpStream::connect(address).is_ok() {
                return Some(Self { child, uri: uri(&format!("http://{address}/v1/invoices")) });
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("nginx does not listen");
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx's master has to tell its workers.
        let pid = self.child.id().to_string();
        drop(Command::new("kill").args(["-TERM", &pid]).status());
        drop(self.child.wait());
    }
}

fn uri(text: &str) -> Uri {
    text.parse().expect("that is a URI")
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = folder().join(name);
    fs::write(&path, text).expect("there is room");
    path
}
