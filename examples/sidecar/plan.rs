//! The checked configuration.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    activity::Limits,
    admission::Admission,
    config::{File, Replay, shown},
    store::Store,
    tokens::Tokens,
    upstream::Upstream,
};

const DAY: u64 = 24 * 60 * 60;

/// The upper limit of the default.
const MAX_CONNECTIONS: u64 = 1024;

/// Files that the process needs for other things: listeners, token services, secrets.
const OTHER_FILES: u64 = 32;

pub(crate) struct Plan {
    pub(crate) listen: SocketAddr,
    pub(crate) admission: Admission,
    pub(crate) drain: Duration,
    /// The time limit for connecting to an upstream.
    pub(crate) connect: Duration,
    pub(crate) max_connections: u32,
    pub(crate) limits: Limits,
    pub(crate) replay: Replay,
    pub(crate) sources: BTreeMap<String, Tokens>,
    /// The upstreams with a path, the longest path first.
    pub(crate) by_path: Vec<Arc<Upstream>>,
    pub(crate) by_port: Vec<(SocketAddr, Arc<Upstream>)>,
}

impl Plan {
    /// Reads every secret once, so that a missing one is an error at startup.
    pub(crate) async fn of(file: File, allow_commands: bool) -> Result<Self, String> {
        if file.replay.per_request > file.replay.total {
            return Err("`replay.per_request` is more than `replay.total`".to_owned());
        }
        if file.upstreams.is_empty() {
            return Err("`upstreams` is empty: nothing would be forwarded".to_owned());
        }
        let mut plan = Self {
            listen: file.listen,
            admission: Admission::new(&file.hosts)?,
            drain: Duration::from_secs(file.drain_seconds),
            connect: seconds("connect_seconds", file.connect_seconds)?,
            max_connections: max_connections(file.connections.max)?,
            limits: Limits {
                headers: seconds("connections.header_seconds", file.connections.header_seconds)?,
                idle: seconds("connections.idle_seconds", file.connections.idle_seconds)?,
            },
            replay: file.replay,
            sources: BTreeMap::new(),
            by_path: Vec::new(),
            by_port: Vec::new(),
        };
        let store = match file.store {
            Some(store) => {
                Some(Store::of(store).await.map_err(|error| format!("`store`: {error}"))?)
            }
            None => None,
        };
        for (name, source) in file.sources {
            let tokens = Tokens::of(&name, source, store.as_ref(), allow_commands).await;
            let tokens = tokens.map_err(|error| format!("`sources.{name}`: {error}"))?;
            plan.sources.insert(name, tokens);
        }
        for (name, upstream) in file.upstreams {
            let added = plan.add(&name, &upstream);
            added.map_err(|error| format!("`upstreams.{name}`: {error}"))?;
        }
        plan.by_path.sort_by_key(|upstream| std::cmp::Reverse(upstream.prefix().len()));
        Ok(plan)
    }

    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.by_path.iter().chain(self.by_port.iter().map(|(_, upstream)| upstream))
    }

    fn add(&mut self, name: &str, written: &crate::config::Upstream) -> Result<(), String> {
        let source = &written.source;
        let tokens = self.sources.get(source).ok_or_else(|| {
            let known: Vec<_> = self.sources.keys().map(|name| format!("`{name}`")).collect();
            // It may be a token that was written in the wrong place.
            let named = shown(source).map(|name| format!(" `{name}`")).unwrap_or_default();
            format!("`source`{named} is unknown: use one of {}", known.join(", "))
        })?;
        let upstream = Arc::new(Upstream::new(name, written, tokens.clone())?);
        match (&written.path, written.listen) {
            (Some(path), None) => {
                if self.by_path.iter().any(|other| other.prefix() == upstream.prefix()) {
                    return Err(format!("another upstream has the `path` {path:?} already"));
                }
                self.by_path.push(upstream);
            }
            (None, Some(listen)) => {
                let taken = |other: &SocketAddr| *other == listen && listen.port() != 0;
                if taken(&self.listen) || self.by_port.iter().any(|(other, _)| taken(other)) {
                    return Err(format!("another listener uses `listen` {listen} already"));
                }
                self.by_port.push((listen, upstream));
            }
            _ => return Err("needs either a `path` or a `listen`".to_owned()),
        }
        Ok(())
    }
}

/// Checks a time limit.
fn seconds(key: &str, seconds: u64) -> Result<Duration, String> {
    if (1..=DAY).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err(format!("`{key}` must be from 1 to {DAY}"))
    }
}

fn max_connections(written: Option<u32>) -> Result<u32, String> {
    match written {
        Some(0) => Err("`connections.max` is 0: no client could connect".to_owned()),
        Some(max) => Ok(max),
        None => Ok(default_connections(open_files())),
    }
}

/// Each connection may need a second one to an upstream.
fn default_connections(open_files: u64) -> u32 {
    let connections = (open_files.saturating_sub(OTHER_FILES) / 2).clamp(1, MAX_CONNECTIONS);
    u32::try_from(connections).expect("`MAX_CONNECTIONS` is small")
}

/// The limit of open files for this process.
#[cfg(unix)]
fn open_files() -> u64 {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(not(unix))]
fn open_files() -> u64 {
    u64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_leaves_files_for_the_upstreams() {
        for (files, connections) in [(0, 1), (64, 16), (1024, 496), (u64::MAX, 1024)] {
            assert_eq!(default_connections(files), connections, "{files}");
        }
    }
}
