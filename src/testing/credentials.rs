//! What a token request carries: its parameters and its client's credentials.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};
use serde_json::{Map, Value};
use url::form_urlencoded;

/// The id of the client that a [`TokenService`](super::TokenService) knows.
pub const CLIENT_ID: &str = "my-app";

/// The client's secret, and its API key with IBM Cloud, until [another one is
/// set](super::TokenService::set_secret).
///
/// It contains a space, a plus and a percent sign, to find a stack that escapes it too often or not
/// often enough.
pub const CLIENT_SECRET: &str = "a secret+100%";

/// The parameters of a token request.
pub(super) struct Params(Vec<(String, String)>);

/// An id and a secret.
pub(super) struct Client {
    pub(super) id: String,
    pub(super) secret: String,
}

// ===== impl Params =====

impl Params {
    pub(super) fn of_form(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    /// The members of a JSON object that are strings; `None` if the body is not an object.
    pub(super) fn of_json(body: &[u8]) -> Option<Self> {
        let object: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let texts = object.into_iter().filter_map(|(name, value)| match value {
            Value::String(text) => Some((name, text)),
            _ => None,
        });
        Some(Self(texts.collect()))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The client's credentials in the body (RFC 6749 §2.3.1).
    pub(super) fn client(&self) -> Option<Client> {
        let (id, secret) = (self.get("client_id")?, self.get("client_secret")?);
        Some(Client { id: id.to_owned(), secret: secret.to_owned() })
    }
}

// ===== impl Client =====

impl Client {
    /// The client's credentials by HTTP Basic (RFC 7617).
    pub(super) fn of_basic(headers: &HeaderMap) -> Option<Self> {
        let (scheme, encoded) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let user_pass = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (id, secret) = user_pass.split_once(':')?;
        Some(Self { id: id.to_owned(), secret: secret.to_owned() })
    }

    /// The credentials without the form-urlencoding that RFC 6749 §2.3.1 demands.
    pub(super) fn decoded(&self) -> Option<Self> {
        Some(Self { id: decoded(&self.id)?, secret: decoded(&self.secret)? })
    }
}

/// Decodes one text; `None` if it decodes to several texts or to none.
fn decoded(text: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(text.as_bytes());
    match (pairs.next(), pairs.next()) {
        (Some((name, value)), None) if value.is_empty() => Some(name.into_owned()),
        _ => None,
    }
}
