//! The fleet's store: a Redis server that this program starts, or files.

use std::{net::SocketAddr, path::PathBuf, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};
use tower_bearer::BoxError;

use crate::process::NAME;

pub(crate) enum Place {
    Redis(Redis),
    Files(tempfile::TempDir),
}

pub(crate) struct Redis {
    address: SocketAddr,
    server: Child,
}

impl Place {
    pub(crate) async fn new() -> Result<Self, BoxError> {
        // The port is free now. It is unlikely that another program takes it before the server
        // does.
        let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        match spawn(address).await {
            Ok(server) => Ok(Self::Redis(Redis { address, server })),
            Err(error) => {
                println!("no redis-server ({error}): using a FileStore");
                println!("on Debian: apt-get install redis-server");
                Ok(Self::Files(tempfile::tempdir()?))
            }
        }
    }

    /// The value of `FLEET_STORE`.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Redis(redis) => format!("redis://{}", redis.address),
            Self::Files(_) => self.directory().to_string_lossy().into_owned(),
        }
    }

    pub(crate) fn redis(&mut self) -> Option<&mut Redis> {
        match self {
            Self::Redis(redis) => Some(redis),
            Self::Files(_) => None,
        }
    }

    pub(crate) async fn empty(&self) -> Result<(), BoxError> {
        match self {
            Self::Redis(redis) => redis.command("FLUSHALL").await,
            Self::Files(_) => Ok(std::fs::remove_file(self.record())?),
        }
    }

    pub(crate) async fn fill_with_garbage(&self) -> Result<(), BoxError> {
        match self {
            Self::Redis(redis) => {
                redis.command(&format!("SET tower-bearer:{{{NAME}}} garbage")).await
            }
            Self::Files(_) => Ok(std::fs::write(self.record(), "garbage")?),
        }
    }

    fn directory(&self) -> PathBuf {
        match self {
            Self::Redis(_) => PathBuf::new(),
            Self::Files(directory) => directory.path().join("tokens"),
        }
    }

    fn record(&self) -> PathBuf {
        self.directory().join(format!("{NAME}.token"))
    }
}

impl Redis {
    /// Kills the server, which loses its data.
    pub(crate) async fn stop(&mut self) -> Result<(), BoxError> {
        Ok(self.server.kill().await?)
    }

    pub(crate) async fn start(&mut self) -> Result<(), BoxError> {
        self.server = spawn(self.address).await?;
        Ok(())
    }

    async fn command(&self, command: &str) -> Result<(), BoxError> {
        let mut connection = BufReader::new(TcpStream::connect(self.address).await?);
        connection.write_all(format!("{command}\r\n").as_bytes()).await?;
        let mut answer = String::new();
        connection.read_line(&mut answer).await?;
        if answer.trim() == "+OK" { Ok(()) } else { Err(answer.into()) }
    }
}

/// Starts a server that stores nothing on disk. It ends with this program.
async fn spawn(address: SocketAddr) -> Result<Child, BoxError> {
    let mut server = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "no"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = server.stdout.take().ok_or("redis-server has no output")?;
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await? {
        if line.contains("Ready to accept connections") {
            // Keep reading: the server must not find its output closed.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(server);
        }
    }
    Err("redis-server ended at once".into())
}
