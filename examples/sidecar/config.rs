//! The configuration file.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use tower_bearer::{Secret, oauth2};

/// The size limit of the file.
const MAX_LEN: u64 = 1024 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    #[serde(default = "loopback")]
    pub(crate) listen: SocketAddr,
    /// Names of this sidecar, in addition to those of the loopback and its own address.
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
    #[serde(default = "half_a_minute")]
    pub(crate) drain_seconds: u64,
    #[serde(default = "ten_seconds")]
    pub(crate) connect_seconds: u64,
    #[serde(default)]
    pub(crate) connections: Connections,
    #[serde(default)]
    pub(crate) replay: Replay,
    pub(crate) store: Option<Store>,
    pub(crate) sources: BTreeMap<String, Source>,
    pub(crate) upstreams: BTreeMap<String, Upstream>,
}

/// Limits for the connections of clients.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Connections {
    pub(crate) max: Option<u32>,
    pub(crate) header_seconds: u64,
    pub(crate) idle_seconds: u64,
}

/// How many bytes of request bodies the sidecar may keep for replays.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Replay {
    pub(crate) per_request: u32,
    pub(crate) total: u32,
}

/// Where sidecars share their tokens: either `file` or `redis`, and the sealing key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    pub(crate) file: Option<PathBuf>,
    pub(crate) redis: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) root_certificate: Option<PathBuf>,
    #[serde(default)]
    pub(crate) allow_plaintext: bool,
    #[serde(default = "quarter_of_a_second")]
    pub(crate) timeout_millis: u64,
    pub(crate) seal: Secret,
    #[serde(default)]
    pub(crate) also_opens: Vec<Secret>,
}

/// Exactly one of the first three, and a policy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    pub(crate) oauth2: Option<oauth2::Config>,
    pub(crate) token: Option<Secret>,
    pub(crate) command: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) policy: toml::Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upstream {
    pub(crate) to: String,
    pub(crate) source: String,
    pub(crate) path: Option<String>,
    pub(crate) listen: Option<SocketAddr>,
    /// Whether to exchange the incoming bearer token, which is a user's.
    #[serde(default)]
    pub(crate) on_behalf_of: bool,
    /// The header that carries the token, if it is not `Authorization: Bearer`.
    pub(crate) header: Option<String>,
    pub(crate) scheme: Option<String>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { max: None, header_seconds: 10, idle_seconds: 120 }
    }
}

impl Default for Replay {
    fn default() -> Self {
        Self { per_request: 64 * 1024, total: 64 * 1024 * 1024 }
    }
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 8080).into()
}

fn quarter_of_a_second() -> u64 {
    250
}

fn ten_seconds() -> u64 {
    10
}

fn half_a_minute() -> u64 {
    30
}

// ===== impl File =====

impl File {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let cannot = |error: io::Error| format!("cannot be read: {error}");
        let file = fs::File::open(path).map_err(cannot)?;
        let mut text = String::new();
        let read = file.take(MAX_LEN + 1).read_to_string(&mut text).map_err(cannot)?;
        if read as u64 > MAX_LEN {
            return Err("is larger than 1 MiB".to_owned());
        }
        Self::parse(&text)
    }

    /// An error is one line. It begins with the line number and the key that it is about, unless it
    /// is about the whole file. It shows neither the text of that line nor a value: either may hold
    /// a secret in the wrong place.
    fn parse(text: &str) -> Result<Self, String> {
        let line = |error: &toml::de::Error| {
            let lines_before =
                |start| text.bytes().take(start).filter(|byte| *byte == b'\n').count();
            let line = error.span().map(|span| lines_before(span.start) + 1);
            line.map(|line| format!("line {line}: ")).unwrap_or_default()
        };
        let document = toml::Deserializer::parse(text)
            .map_err(|error| format!("{}{}", line(&error), without_value(error.message())))?;
        serde_path_to_error::deserialize(document).map_err(|error| {
            let (path, error) = (error.path(), error.inner());
            let problem = without_value(error.message());
            if path.iter().next().is_none() {
                return problem;
            }
            let place = match shown_path(&path.to_string(), error.message()) {
                "" => String::new(),
                path => format!("in `{path}`: "),
            };
            format!("{}{place}{problem}", line(error))
        })
    }
}

// ===== What an error shows =====

/// The longest name that an error shows.
const MAX_NAME: usize = 32;

/// An unknown name, if it looks like a name of the library. A name that is longer, or that has
/// a digit or a capital, may be a secret in the place of a name.
pub(crate) fn shown(name: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || b"_-".contains(&byte);
    (name.len() <= MAX_NAME && name.bytes().all(is_plain)).then_some(name)
}

/// The text of a serde error without its quotations: the wrong value, or a key that may be a
/// secret.
///
/// The prefixes below are all those of serde's errors that quote the file.
fn without_value(problem: &str) -> String {
    let expected = |rest: &str| match rest.rsplit_once(", expected ") {
        Some((_, expected)) => format!(", expected {expected}"),
        None => String::new(),
    };
    if let Some(rest) = problem.strip_prefix("unknown field ") {
        let key = unknown_key(problem).and_then(shown);
        let key = key.map(|key| format!(" `{key}`")).unwrap_or_default();
        return format!("unknown field{key}{}", expected(rest));
    }
    if let Some(rest) = problem.strip_prefix("unknown variant ") {
        return format!("unknown variant{}", expected(rest));
    }
    for start in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = problem.strip_prefix(start) {
            // "string \"…\"", "integer `…`", "map"
            let kind = rest.split([',', '"', '`']).next().unwrap_or_default().trim_end();
            return format!("{start}{kind}{}", expected(rest));
        }
    }
    problem.replace('\n', "; ")
}

/// The path to the error, without a key that the error must not show.
fn shown_path<'a>(path: &'a str, problem: &str) -> &'a str {
    match unknown_key(problem) {
        Some(key) if shown(key).is_none() => {
            path.strip_suffix(key).unwrap_or_default().trim_end_matches('.')
        }
        _ => path,
    }
}

/// The unknown key, if that is the error.
fn unknown_key(problem: &str) -> Option<&str> {
    let rest = problem.strip_prefix("unknown field `")?;
    let (key, _) =
        rest.rsplit_once("`, expected ").or_else(|| rest.rsplit_once("`, there are "))?;
    Some(key)
}
