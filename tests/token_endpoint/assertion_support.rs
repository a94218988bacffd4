//! Assertions, taken apart.

#[cfg(feature = "jwt")]
use std::path::PathBuf;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
#[cfg(feature = "jwt")]
use tower_bearer::Secret;
use tower_bearer::oauth2::{TokenEndpoint, TokenEndpointBuilder};

use super::support::{Seen, URL};

pub(crate) const ISSUER: &str = "https://auth.example.com";
pub(crate) const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A client that has nothing but its id.
pub(crate) fn nameless() -> TokenEndpointBuilder {
    TokenEndpoint::builder(URL).client_id("my-app")
}

#[cfg(feature = "jwt")]
/// One of the keys and certificates for tests.
pub(crate) fn key_file(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/keys")).join(name)
}

#[cfg(feature = "jwt")]
pub(crate) fn key_text(name: &str) -> String {
    std::fs::read_to_string(key_file(name)).unwrap()
}

#[cfg(feature = "jwt")]
pub(crate) fn key(name: &str) -> Secret {
    Secret::file(key_file(name))
}

/// A JWT as it was sent.
#[derive(Debug)]
pub(crate) struct Jwt {
    pub(crate) header: Value,
    pub(crate) claims: Value,
    /// What is signed.
    #[cfg(feature = "jwt")]
    pub(crate) message: String,
    pub(crate) signature: Vec<u8>,
}

impl Jwt {
    pub(crate) fn read(text: &str) -> Self {
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        let json = |part: &str| serde_json::from_slice(&decode(part)).unwrap();
        let (message, signature) = text.rsplit_once('.').unwrap();
        let (header, claims) = message.split_once('.').unwrap();
        Self {
            header: json(header),
            claims: json(claims),
            #[cfg(feature = "jwt")]
            message: message.to_owned(),
            signature: decode(signature),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.header[name].as_str().unwrap_or_default()
    }

    pub(crate) fn claim(&self, name: &str) -> &str {
        self.claims[name].as_str().unwrap_or_default()
    }

    pub(crate) fn seconds(&self, name: &str) -> u64 {
        self.claims[name].as_u64().unwrap()
    }
}

impl Seen {
    /// A parameter of the form.
    pub(crate) fn param(&self, name: &str) -> String {
        let params = url::form_urlencoded::parse(self.body.as_bytes());
        let mut found = params.filter(|(found, _)| found == name).map(|(_, value)| value);
        let value = found.next().unwrap_or_default().into_owned();
        assert_eq!(found.next(), None, "no parameter comes twice");
        value
    }

    pub(crate) fn assertion(&self) -> Jwt {
        Jwt::read(&self.param("client_assertion"))
    }
}
