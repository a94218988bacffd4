//! Makes the client of the ready-made transport, again whenever its certificate changes.

use std::time::Duration;

use reqwest::{Certificate, Client, Proxy, redirect::Policy};

/// The settings of a client.
pub(super) struct ClientRecipe {
    /// Certificate authorities in addition to the system's.
    pub(super) roots: Vec<Certificate>,
    pub(super) proxy: Option<Proxy>,
    /// Whether to ignore proxies from the environment.
    pub(super) is_direct: bool,
    pub(super) connect_timeout: Option<Duration>,
}

// ===== impl ClientRecipe =====

impl ClientRecipe {
    /// Makes a client with that identity, if there is one.
    pub(super) fn client(
        &self,
        identity: Option<reqwest::Identity>,
    ) -> Result<Client, reqwest::Error> {
        let mut client = Client::builder().redirect(Policy::none());
        if let Some(timeout) = self.connect_timeout {
            client = client.connect_timeout(timeout);
        }
        client = match &self.proxy {
            Some(proxy) => client.proxy(proxy.clone()),
            None if self.is_direct => client.no_proxy(),
            None => client,
        };
        if !self.roots.is_empty() {
            client = client.tls_certs_merge(self.roots.iter().cloned());
        }
        if let Some(identity) = identity {
            client = client.identity(identity);
        }
        client.build()
    }
}
