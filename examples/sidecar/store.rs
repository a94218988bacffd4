//! The store in which several sidecars share their tokens.

use std::{path::PathBuf, time::Duration};

use tower_bearer::{
    Secret, TokenSource,
    shared::{RedisStore, Seal, Shared},
};

use crate::{config, tokens::readable};

pub(crate) struct Store {
    place: Place,
    seal: Seal,
    timeout: Duration,
}

enum Place {
    #[cfg(unix)]
    Files(tower_bearer::shared::FileStore),
    Redis(RedisStore),
}

impl Store {
    /// Reads every secret once. It does not connect to the store: without the store each sidecar
    /// fetches for itself.
    pub(crate) async fn of(written: config::Store) -> Result<Self, String> {
        let config::Store { file, redis, password, root_certificate, .. } = written;
        let place = match (file, redis) {
            (Some(directory), None) => {
                if password.is_some() || root_certificate.is_some() || written.allow_plaintext {
                    let problem = "`password`, `root_certificate` and `allow_plaintext` are for \
                                   `redis`, not for `file`";
                    return Err(problem.to_owned());
                }
                Place::files(directory)?
            }
            (None, Some(url)) => {
                Place::redis(url, password, root_certificate, written.allow_plaintext).await?
            }
            _ => return Err("needs either `file` or `redis`".to_owned()),
        };
        let mut seal = Seal::new(written.seal);
        seal.check().await.map_err(|error| format!("`seal`: {error}"))?;
        for old in written.also_opens {
            readable("also_opens", &old).await?;
            seal = seal.also_opens(old);
        }
        Ok(Self { place, seal, timeout: Duration::from_millis(written.timeout_millis) })
    }

    /// Shares the tokens of `source` under `name`.
    pub(crate) fn share<S: TokenSource>(&self, name: &str, source: S) -> Shared<S> {
        let unsealed = match &self.place {
            #[cfg(unix)]
            Place::Files(store) => Shared::new(source, store.clone()),
            Place::Redis(store) => Shared::new(source, store.clone()),
        };
        unsealed.name(name).seal(self.seal.clone()).store_timeout(self.timeout)
    }
}

impl Place {
    #[cfg(unix)]
    #[expect(clippy::unnecessary_wraps, reason = "it fails on other systems")]
    fn files(directory: PathBuf) -> Result<Self, String> {
        Ok(Self::Files(tower_bearer::shared::FileStore::new(directory)))
    }

    #[cfg(not(unix))]
    fn files(_: PathBuf) -> Result<Self, String> {
        Err("`file` works on Unix only: use `redis`".to_owned())
    }

    async fn redis(
        url: String,
        password: Option<Secret>,
        root_certificate: Option<PathBuf>,
        allow_plaintext: bool,
    ) -> Result<Self, String> {
        let mut builder = RedisStore::builder(url);
        if let Some(password) = password {
            readable("password", &password).await?;
            builder = builder.password(password);
        }
        if let Some(path) = root_certificate {
            let pem =
                std::fs::read(path).map_err(|error| format!("`root_certificate`: {error}"))?;
            builder = builder.root_certificate(pem);
        }
        if allow_plaintext {
            builder = builder.allow_plaintext();
        }
        builder.build().map(Self::Redis).map_err(|error| format!("`redis`: {error}"))
    }
}
