//! Scheme, host and port: what a token is bound to (RFC 6454 §4).

use std::{
    convert::Infallible,
    fmt,
    hash::{Hash, Hasher},
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use http::uri::{Authority, Scheme, Uri};

/// Where a token may go: a scheme (`http` or `https`), a host and a port.
///
/// Hosts compare without regard to case, and a missing port is the scheme's own.
///
/// ```
/// use tower_bearer::Origin;
///
/// let origin: Origin = "https://API.example.com:443".parse()?;
/// assert_eq!(origin, "https://api.example.com".parse()?);
/// assert_eq!(origin.to_string(), "https://api.example.com");
///
/// let error = "https://api.example.com/v1".parse::<Origin>().unwrap_err();
/// assert!(error.to_string().contains("path"));
/// # Ok::<(), tower_bearer::InvalidOrigin>(())
/// ```
#[derive(Clone)]
pub struct Origin {
    secure: bool,
    // As it stood in the URI, so that taking an origin from a request costs a reference count.
    authority: Authority,
}

// ===== impl Origin =====

impl Origin {
    /// The origin that a URI names; `None` if it lacks a scheme or an authority, or if its
    /// scheme is another than `http` and `https`.
    #[must_use]
    pub fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme()?;
        let secure = *scheme == Scheme::HTTPS;
        let authority = uri.authority()?;
        let known = secure || *scheme == Scheme::HTTP;
        (known && !authority.host().is_empty())
            .then(|| Self { secure, authority: authority.clone() })
    }

    /// Whether the scheme is `https`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.secure
    }

    /// Whether the host is this machine: `localhost` and names below it (RFC 6761 §6.3),
    /// `127.0.0.0/8`, `[::1]`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            return address.parse().is_ok_and(|address: Ipv6Addr| address.is_loopback());
        }
        let last_label = host.rsplit('.').next().unwrap_or_default();
        last_label.eq_ignore_ascii_case("localhost")
            || host.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback())
    }

    /// The host, in the case that it was written in.
    #[must_use]
    pub fn host(&self) -> &str {
        self.authority.host()
    }

    /// The port; the scheme's own if none was written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(self.default_port())
    }

    fn default_port(&self) -> u16 {
        if self.secure { 443 } else { 80 }
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        self.secure == other.secure
            && self.port() == other.port()
            && self.host().eq_ignore_ascii_case(other.host())
    }
}

impl Eq for Origin {}

impl Hash for Origin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.secure.hash(state);
        self.port().hash(state);
        for byte in self.host().bytes() {
            byte.to_ascii_lowercase().hash(state);
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "https://" } else { "http://" })?;
        for byte in self.host().bytes() {
            write!(f, "{}", char::from(byte.to_ascii_lowercase()))?;
        }
        if self.port() == self.default_port() {
            return Ok(());
        }
        write!(f, ":{}", self.port())
    }
}

// Not derived: the authority may hold a password (RFC 3986 §3.2.1).
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({self})")
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        // The `http` crate drops a fragment in silence.
        if text.contains('#') {
            return Err(InvalidOrigin::Extra("a fragment"));
        }
        let uri: Uri = text.parse().map_err(|_| InvalidOrigin::Unreadable)?;
        let origin = Self::of(&uri).ok_or(InvalidOrigin::NoOrigin)?;
        if uri.query().is_some() {
            return Err(InvalidOrigin::Extra("a query"));
        }
        if uri.path() != "/" {
            return Err(InvalidOrigin::Extra("a path"));
        }
        if origin.authority.as_str().contains('@') {
            return Err(InvalidOrigin::Extra("user info"));
        }
        let after_host = &origin.authority.as_str()[origin.host().len()..];
        if !after_host.is_empty() && origin.authority.port_u16().is_none_or(|port| port == 0) {
            return Err(InvalidOrigin::Port);
        }
        Ok(origin)
    }
}

impl TryFrom<&str> for Origin {
    type Error = InvalidOrigin;

    fn try_from(text: &str) -> Result<Self, InvalidOrigin> {
        text.parse()
    }
}

impl TryFrom<&String> for Origin {
    type Error = InvalidOrigin;

    fn try_from(text: &String) -> Result<Self, InvalidOrigin> {
        text.parse()
    }
}

impl TryFrom<String> for Origin {
    type Error = InvalidOrigin;

    fn try_from(text: String) -> Result<Self, InvalidOrigin> {
        text.parse()
    }
}

/// A response extension: the URI that the response came from, if whatever is below has followed
/// a redirect.
///
/// A 401 from another origin than the one that the request named is no rejection of the token,
/// which did not go there. [`ReqwestService`](crate::oauth2::ReqwestService) sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalUri(pub Uri);

// ===== impl InvalidOrigin =====

/// A text that is no origin, or one that cannot be added to the layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidOrigin {
    /// It cannot be read as a URI at all.
    #[error("the origin is no valid URI: write it like `https://api.example.com`")]
    Unreadable,
    /// The scheme or the host is missing, or the scheme is another one.
    #[error(
        "the origin needs a scheme, `https` or `http`, and a host: write it like \
         `https://api.example.com`"
    )]
    NoOrigin,
    /// There is more than an origin holds.
    #[error("the origin has {0}: an origin is a scheme, a host and perhaps a port")]
    Extra(&'static str),
    /// The port is not a number from 1 to 65535.
    #[error("the origin's port is not a number from 1 to 65535")]
    Port,
    /// The origin has a token already, from another cache.
    #[error("the origin {0} has a token already: give each origin to one `.origin` or `.route`")]
    Taken(Origin),
}

impl From<Infallible> for InvalidOrigin {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str) -> Option<Origin> {
        Origin::of(&uri.parse().unwrap())
    }

    fn origin(text: &str) -> Origin {
        text.parse().unwrap()
    }

    #[test]
    fn case_and_the_default_port_make_no_difference() {
        assert_eq!(origin("https://a.example"), origin("HTTPS://A.Example:443/"));
        assert_eq!(origin("http://a.example:80"), origin("http://a.example"));
        assert_ne!(origin("http://a.example"), origin("https://a.example"));
        assert_ne!(origin("http://a.example:443"), origin("https://a.example"));
        assert_ne!(origin("https://a.example"), origin("https://a.example:8443"));
        assert_ne!(origin("https://a.example"), origin("https://a.example.evil.example"));
        assert_eq!(origin("https://A.Example:8443").to_string(), "https://a.example:8443");
    }

    #[test]
    fn what_is_more_or_less_than_an_origin_is_refused() {
        for (text, expected) in [
            ("https://a.example/v1", InvalidOrigin::Extra("a path")),
            ("https://a.example/?q", InvalidOrigin::Extra("a query")),
            ("https://a.example#f", InvalidOrigin::Extra("a fragment")),
            ("https://user:pass@a.example", InvalidOrigin::Extra("user info")),
            ("https://user@a.example", InvalidOrigin::Extra("user info")),
            ("ftp://a.example", InvalidOrigin::NoOrigin),
            ("wss://a.example", InvalidOrigin::NoOrigin),
            ("a.example", InvalidOrigin::NoOrigin),
            ("/v1", InvalidOrigin::NoOrigin),
            ("https://a.example:0", InvalidOrigin::Port),
            ("", InvalidOrigin::Unreadable),
            ("https://", InvalidOrigin::Unreadable),
            ("https://a b", InvalidOrigin::Unreadable),
            ("https://é.example", InvalidOrigin::Unreadable),
        ] {
            let error = text.parse::<Origin>().unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("pass"));
        }
        for text in ["https://a.example:99999", "https://a.example:", "https://:443"] {
            text.parse::<Origin>().unwrap_err();
        }
    }

    #[test]
    fn the_host_is_what_stands_behind_the_user_info() {
        let found = of("https://api.example.com:pw@evil.example/").unwrap();
        assert_eq!(found, origin("https://evil.example"));
        assert!(!format!("{found} {found:?}").contains("pw"));
    }

    #[test]
    fn a_uri_without_scheme_or_authority_names_no_origin() {
        for uri in ["/path", "a.example:443", "*", "ftp://a.example/"] {
            assert_eq!(of(uri), None, "{uri}");
        }
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for host in
            ["localhost", "LOCALHOST:1", "a.localhost", "127.0.0.1", "127.9.9.9:80", "[::1]:8080"]
        {
            assert!(origin(&format!("http://{host}")).is_loopback(), "{host}");
        }
        for host in
            ["localhost.evil.example", "127.0.0.1.evil.example", "128.0.0.1", "[::2]", "0.0.0.0"]
        {
            assert!(!origin(&format!("http://{host}")).is_loopback(), "{host}");
        }
    }
}
