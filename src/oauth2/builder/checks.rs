//! The checks of settings.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use url::Url;

use super::{
    super::{
        address::{self, UrlProblem},
        response::FieldNames,
        text::Text,
    },
    placeholder,
};
use crate::{origin::Origin, secret::Secret};

/// Parameters that have their own methods.
const OWN_PARAMS: [&str; 7] =
    ["grant_type", "client_id", "client_secret", "refresh_token", "scope", "audience", "resource"];

/// Parameters that `.client_assertion(..)` sends.
const ASSERTION_PARAMS: [&str; 2] = ["client_assertion", "client_assertion_type"];

/// The error of a placeholder. It does not show the text, which may be something else.
pub(super) const PLACEHOLDER: &str =
    "is a placeholder, a name in brackets: replace it with its value";

/// An invalid setting of a token endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEndpoint {
    /// The URL.
    #[error("the token endpoint's `url` {0}")]
    Url(&'static str),
    /// The URL would send the credentials in cleartext.
    #[error(
        "the token endpoint's `url` is {0}, which would send the credentials in cleartext: use \
         `https://`, or `.allow_plaintext()` if you must"
    )]
    Plaintext(Origin),
    /// Another setting, named after its method.
    #[error("the token endpoint's `{name}` {problem}")]
    Setting {
        /// The method of the builder.
        name: &'static str,
        /// The problem.
        problem: &'static str,
    },
    /// A parameter.
    #[error("the token endpoint's `param` {name:?} {problem}")]
    Param {
        /// The name of the parameter.
        name: String,
        /// The problem.
        problem: &'static str,
    },
    /// A header.
    #[error("the token endpoint's `header` {name:?} {problem}")]
    Header {
        /// The name of the header.
        name: String,
        /// The problem.
        problem: &'static str,
    },
    /// An environment variable that configures a provider.
    #[error("the environment variable {name} {problem}")]
    Variable {
        /// The name of the variable.
        name: &'static str,
        /// The problem.
        problem: &'static str,
    },
    /// The ready-made transport could not be set up.
    #[error("the token endpoint's ready-made `transport` cannot be set up: {0}")]
    Transport(String),
}

// ===== impl InvalidEndpoint =====

impl InvalidEndpoint {
    pub(super) fn setting(name: &'static str, problem: &'static str) -> Self {
        Self::Setting { name, problem }
    }
}

// ===== The checks =====

pub(super) fn url(url: &str, allow_plaintext: bool) -> Result<(Uri, Origin), InvalidEndpoint> {
    if placeholder::is_in(url) {
        return Err(InvalidEndpoint::Url(PLACEHOLDER_IN_IT));
    }
    address::parse(url, allow_plaintext).map_err(|problem| {
        InvalidEndpoint::Url(match problem {
            UrlProblem::Plaintext(origin) => return InvalidEndpoint::Plaintext(origin),
            UrlProblem::NotAbsolute => {
                "is not absolute: write it like `https://auth.example.com/token`"
            }
            UrlProblem::UserInfo => "has user info: use `.client_id` and `.client_secret`",
            UrlProblem::Unreadable => UNREADABLE,
            UrlProblem::Fragment => FRAGMENT,
            UrlProblem::Port => PORT,
        })
    })
}

const PLACEHOLDER_IN_IT: &str =
    "contains a placeholder, a name in brackets: replace it with its value";
const UNREADABLE: &str = "is not a valid URL";
const FRAGMENT: &str = "has a fragment, which is never sent";
const PORT: &str = "has a port that is not a number from 1 to 65535";

/// An issuer has neither query nor fragment (RFC 8414 §2).
pub(super) fn issuer(
    issuer: &str,
    allow_plaintext: bool,
) -> Result<(Uri, Origin), InvalidEndpoint> {
    let problem = if placeholder::is_in(issuer) {
        PLACEHOLDER_IN_IT
    } else if issuer.contains('?') {
        "has a query, which an issuer must not have"
    } else if issuer.contains("/.well-known/") {
        "is the URL of metadata: write the issuer, like `https://auth.example.com`"
    } else {
        match address::parse(issuer, allow_plaintext) {
            Ok(issuer) => return Ok(issuer),
            Err(UrlProblem::Plaintext(_)) => {
                "is plain http to another host, where an attacker on the path could answer in \
                 its place: use `https://`, or `.allow_plaintext()` if you must"
            }
            Err(UrlProblem::NotAbsolute) => {
                "is not absolute: write it like `https://auth.example.com`"
            }
            Err(UrlProblem::UserInfo) => "has user info, which an issuer must not have",
            Err(UrlProblem::Unreadable) => UNREADABLE,
            Err(UrlProblem::Fragment) => "has a fragment, which an issuer must not have",
            Err(UrlProblem::Port) => PORT,
        }
    };
    Err(InvalidEndpoint::setting("discover", problem))
}

pub(super) fn resource(resource: &str) -> Result<(), InvalidEndpoint> {
    let problem = match Url::parse(resource) {
        Err(_) => "is not an absolute URI (RFC 8707 §2)",
        Ok(_) if resource.contains('#') => "has a fragment (RFC 8707 §2)",
        Ok(_) => return Ok(()),
    };
    Err(InvalidEndpoint::setting("resource", problem))
}

/// No parameter may occur twice (RFC 6749 §3.2).
pub(super) fn params(params: &[(String, Text)]) -> Result<(), InvalidEndpoint> {
    for (at, (name, value)) in params.iter().enumerate() {
        let problem = if name.is_empty() {
            "has no name"
        } else if OWN_PARAMS.contains(&name.as_str()) {
            "has its own method: use that"
        } else if ASSERTION_PARAMS.contains(&name.as_str()) {
            "is sent by `.client_assertion(..)`: use that, with `ClientAssertion::token(..)` for \
             an assertion of a third party"
        } else if params.iter().take(at).any(|(earlier, _)| earlier == name) {
            "is set twice, and may occur only once (RFC 6749 §3.2)"
        } else if is_unfilled(name, value) {
            PLACEHOLDER
        } else {
            continue;
        };
        return Err(InvalidEndpoint::Param { name: name.clone(), problem });
    }
    Ok(())
}

/// Whether the value is an API key that is still a placeholder.
fn is_unfilled(name: &str, value: &Text) -> bool {
    placeholder::is_api_key(name) && value.fixed().is_some_and(placeholder::is_one)
}

pub(super) fn names(names: &FieldNames) -> Result<(), InvalidEndpoint> {
    if names.configured().any(str::is_empty) {
        return Err(InvalidEndpoint::setting("field", "has an empty name"));
    }
    Ok(())
}

pub(super) fn timeouts(
    timeouts: [(&'static str, Option<Duration>); 2],
) -> Result<(), InvalidEndpoint> {
    match timeouts.into_iter().find(|(_, timeout)| *timeout == Some(Duration::ZERO)) {
        Some((name, _)) => Err(InvalidEndpoint::setting(name, "is zero")),
        None => Ok(()),
    }
}

/// The fixed headers, and those that are secrets.
pub(super) fn headers(
    user_agent: &str,
    extra: Vec<(String, Text)>,
) -> Result<(HeaderMap, Vec<(HeaderName, Secret)>), InvalidEndpoint> {
    let mut headers = HeaderMap::new();
    let user_agent = HeaderValue::from_str(user_agent)
        .map_err(|_| InvalidEndpoint::setting("user_agent", "is not a header value"))?;
    headers.insert(header::USER_AGENT, user_agent);
    let mut secret_headers = Vec::new();
    for (name, value) in extra {
        let invalid = |problem| InvalidEndpoint::Header { name: name.clone(), problem };
        let checked = header_name(&name).map_err(invalid)?;
        if is_unfilled(&name, &value) {
            return Err(invalid(PLACEHOLDER));
        }
        match value {
            Text::Plain(value) => {
                headers.append(checked, header_value(&value).map_err(invalid)?);
            }
            Text::Secret(secret) => secret_headers.push((checked, secret)),
        }
    }
    Ok((headers, secret_headers))
}

fn header_name(name: &str) -> Result<HeaderName, &'static str> {
    let name: HeaderName = name.parse().map_err(|_| "is not a header name")?;
    let is_ours = [header::AUTHORIZATION, header::HOST, header::TRANSFER_ENCODING].contains(&name);
    if is_ours || name.as_str().starts_with("content-") {
        return Err("cannot be set: the request has its own");
    }
    if name == header::USER_AGENT {
        return Err("has its own method: use `.user_agent`");
    }
    Ok(name)
}

fn header_value(value: &str) -> Result<HeaderValue, &'static str> {
    let mut value =
        HeaderValue::from_str(value).map_err(|_| "has a value that is not valid in a header")?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Option<InvalidEndpoint> {
        url(text, false).err()
    }

    #[test]
    fn a_url_that_is_not_absolute_or_has_extra_parts_is_refused() {
        for (text, expected) in [
            ("", "not a valid URL"),
            ("https://", "not a valid URL"),
            ("https://a b/", "not a valid URL"),
            ("/token", "not absolute"),
            ("auth.example.com", "not absolute"),
            ("auth.example.com/token", "not a valid URL"),
            ("ftp://auth.example.com/", "not absolute"),
            ("https://user:hush@auth.example.com/", "user info"),
            ("https://auth.example.com/token#hush", "fragment"),
            ("https://auth.example.com:0/", "port"),
            ("https://auth.example.com:/", "port"),
            ("https://auth.example.com:99999/", "port"),
            ("https://[0:0:0:0:0:0:0:1]:0/", "port"),
            ("https://[::1]:/", "port"),
        ] {
            let error = problem(text).unwrap().to_string();
            assert!(error.contains(expected) && error.contains("`url`"), "{text}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
        assert_eq!(problem("https://auth.example.com:8443/token?tenant=a"), None);
        assert_eq!(problem("https://[0:0:0:0:0:0:0:1]/token"), None);
    }

    #[test]
    fn plaintext_is_allowed_to_loopback_or_with_allow_plaintext() {
        let error = problem("http://auth.example.com/token?key=hush").unwrap();
        assert!(error.to_string().contains(".allow_plaintext()"), "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
        assert_eq!(problem("http://127.0.0.1:1/token"), None);
        assert_eq!(problem("http://localhost/token"), None);
        assert!(url("http://auth.example.com/", true).is_ok());
    }

    #[test]
    fn a_resource_is_an_absolute_uri_without_fragment() {
        assert_eq!(resource("https://api.example.com/v1?x"), Ok(()));
        assert_eq!(resource("urn:example:api"), Ok(()));
        for text in ["", "/v1", "api.example.com", "https://api.example.com/#x", "urn:x:y#"] {
            let error = resource(text).unwrap_err();
            assert!(error.to_string().contains("`resource`"), "{text}: {error}");
        }
    }
}
