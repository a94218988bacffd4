//! The settings of the ready-made transport, and its construction.

use std::{error::Error, fmt::Write, time::Duration};

use reqwest::{Certificate, Client, Proxy, Url};
use zeroize::Zeroizing;

use super::{
    super::{
        certificate::CertificateTransport,
        client_recipe::ClientRecipe,
        reqwest_service::ReqwestService,
        transport::{Identity, ServiceTransport, Transport},
    },
    checks::InvalidEndpoint,
};
use crate::{origin::Origin, secret::Secret};

const ROOT_CERTIFICATE: &str = "root_certificate";
const CLIENT_CERTIFICATE: &str = "client_certificate";
const PROXY: &str = "proxy";

/// The settings of the ready-made transport.
#[derive(Default)]
pub(super) struct ReadyMade {
    /// Certificates in PEM, at least one in each.
    pub(super) root_certificates: Vec<Vec<u8>>,
    /// The client's certificate and its key.
    pub(super) certificate: Option<(Secret, Secret)>,
    /// It may contain a password.
    pub(super) proxy: Option<Zeroizing<String>>,
}

// ===== impl ReadyMade =====

impl ReadyMade {
    /// The transport.
    ///
    /// # Errors
    ///
    /// [`InvalidEndpoint`] if a setting is invalid, or TLS cannot be set up.
    pub(super) fn transport(
        &self,
        origin: &Origin,
        allow_plaintext: bool,
        connect_timeout: Option<Duration>,
    ) -> Result<Box<dyn Transport>, InvalidEndpoint> {
        let recipe = ClientRecipe {
            roots: self.roots()?,
            proxy: self.proxy(origin, allow_plaintext)?,
            // A proxy from the environment would read the credentials.
            is_direct: !origin.is_https() || origin.is_loopback(),
            connect_timeout,
        };
        let client = recipe.client(None).map_err(|error| {
            if has_only_certificates(&recipe.roots) { failed(&error) } else { no_certificate() }
        })?;
        Ok(match &self.certificate {
            None => Box::new(ServiceTransport(ReqwestService::new(client))),
            Some((certificate, key)) => {
                let transport = CertificateTransport::new(recipe);
                check(&transport, certificate, key)?;
                Box::new(transport)
            }
        })
    }

    /// The name of a setting in use, which a transport of the user's would ignore.
    pub(super) fn first_set(&self) -> Option<&'static str> {
        if !self.root_certificates.is_empty() {
            return Some(ROOT_CERTIFICATE);
        }
        if self.certificate.is_some() {
            return Some(CLIENT_CERTIFICATE);
        }
        self.proxy.as_ref().map(|_| PROXY)
    }

    fn roots(&self) -> Result<Vec<Certificate>, InvalidEndpoint> {
        let mut roots = Vec::new();
        for pem in &self.root_certificates {
            let found = Certificate::from_pem_bundle(pem).map_err(|_| no_certificate())?;
            if found.is_empty() {
                return Err(no_certificate());
            }
            roots.extend(found);
        }
        Ok(roots)
    }

    fn proxy(
        &self,
        origin: &Origin,
        allow_plaintext: bool,
    ) -> Result<Option<Proxy>, InvalidEndpoint> {
        let Some(proxy) = &self.proxy else { return Ok(None) };
        let invalid = |problem| InvalidEndpoint::setting(PROXY, problem);
        if !origin.is_https() && !allow_plaintext {
            return Err(invalid(
                "could read the credentials, because the `url` is not https: use `https://`, or \
                 `.allow_plaintext()` if you must",
            ));
        }
        let url = Url::parse(proxy).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let proxy = url.and_then(|url| Proxy::all(url).ok());
        let wanted =
            "is not an `http` or `https` URL: write it like `http://proxy.example.com:3128`";
        proxy.map(Some).ok_or(invalid(wanted))
    }
}

/// Whether all are certificates. reqwest parses them only when it sets up TLS, which can fail for
/// other reasons too.
fn has_only_certificates(roots: &[Certificate]) -> bool {
    let only = || Client::builder().no_proxy().tls_certs_only(roots.iter().cloned());
    roots.is_empty() || only().build().is_ok()
}

/// Checks fixed texts. Texts that a fetch reads are checked then.
fn check(
    transport: &CertificateTransport,
    certificate: &Secret,
    key: &Secret,
) -> Result<(), InvalidEndpoint> {
    let (Some(certificate), Some(key)) = (certificate.fixed(), key.fixed()) else {
        return Ok(());
    };
    let checked = transport.check(Identity { certificate, key });
    checked.map_err(|problem| InvalidEndpoint::setting(CLIENT_CERTIFICATE, problem))
}

fn no_certificate() -> InvalidEndpoint {
    InvalidEndpoint::setting(
        ROOT_CERTIFICATE,
        "holds no certificates in PEM, or one that cannot be read: give the contents of the file, \
         with its `-----BEGIN CERTIFICATE-----`",
    )
}

fn failed(error: &reqwest::Error) -> InvalidEndpoint {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        // Writing to a `String` never fails.
        let _ = write!(text, ": {cause}");
        next = cause.source();
    }
    InvalidEndpoint::Transport(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_cannot_be_set_up_says_why() {
        let error = Client::builder().user_agent("a\nb").build().unwrap_err();
        let error = failed(&error).to_string();
        assert!(error.contains("`transport` cannot be set up: builder error: "), "{error}");
        assert!(error.contains("header value"), "{error}");
    }
}
