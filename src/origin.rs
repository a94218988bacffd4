//! Scheme, host and port: what a token is bound to (RFC 6454 §4).

mod redirect;

use std::{
    convert::Infallible,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use http::uri::{Scheme, Uri};

pub use self::redirect::FinalUri;
#[cfg(feature = "reqwest-middleware")]
pub(crate) use self::redirect::final_uri;

/// Where a token may go: a scheme (`http` or `https`), a host and a port.
///
/// An origin has one form: the host in lower case, an IPv6 address as RFC 5952 writes it, and the
/// port as a number, by default that of the scheme. So two origins that lead to the same place are
/// equal, however they were written. No name is resolved, and a trailing dot makes a different
/// name.
///
/// ```
/// use tower_bearer::Origin;
///
/// let origin: Origin = "https://API.example.com:443".parse()?;
/// assert_eq!(origin, "https://api.example.com".parse()?);
/// assert_eq!(origin.to_string(), "https://api.example.com");
///
/// let origin: Origin = "http://[0:0:0:0:0:0:0:1]:8080".parse()?;
/// assert_eq!(origin.to_string(), "http://[::1]:8080");
///
/// let error = "https://api.example.com/v1".parse::<Origin>().unwrap_err();
/// assert!(error.to_string().contains("path"));
/// # Ok::<(), tower_bearer::InvalidOrigin>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    secure: bool,
    // Shared, so that cloning an origin costs a reference count.
    host: Arc<str>,
    port: u16,
}

// ===== impl Origin =====

impl Origin {
    /// The origin that a URI names; `None` if it lacks a scheme or an authority, if its scheme is
    /// neither `http` nor `https`, if its port is invalid, if its brackets hold no IPv6 address (one
    /// with a zone is none: it leads elsewhere on each machine), or if there is a `%` in its name.
    #[must_use]
    pub fn of(uri: &Uri) -> Option<Self> {
        let secure = match uri.scheme()? {
            scheme if *scheme == Scheme::HTTPS => true,
            scheme if *scheme == Scheme::HTTP => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        let host = authority.host();
        // The `http` crate lets these through behind user info.
        let is_broken = host.contains(['[', ']', '%']) && address(host).is_none();
        if host.is_empty() || is_broken {
            return None;
        }
        // Without digits the port is that of the scheme (RFC 3986 §3.2.3). A number that is not a
        // port must not become it.
        let port = match authority.as_str().rsplit_once(':') {
            Some((_, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                if digits.is_empty() { default_port(secure) } else { digits.parse().ok()? }
            }
            _ => default_port(secure),
        };
        Some(Self { secure, host: canonical(host), port })
    }

    /// Whether the scheme is `https`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.secure
    }

    /// Whether the host is this machine: `localhost` and names below it (RFC 6761 §6.3),
    /// `127.0.0.0/8`, `[::1]`, and `127.0.0.0/8` written as IPv6 (`[::ffff:127.0.0.1]`), which
    /// an operating system connects to over IPv4 or not at all.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match address(&self.host) {
            Some(address) => address.to_canonical().is_loopback(),
            None => self.host.rsplit('.').next() == Some("localhost"),
        }
    }

    /// The host in lower case; an IPv6 address in its brackets, as RFC 5952 writes it.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, by default that of the scheme.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

fn canonical(host: &str) -> Arc<str> {
    match address(host) {
        Some(IpAddr::V6(address)) => format!("[{address}]").into(),
        _ if host.bytes().any(|byte| byte.is_ascii_uppercase()) => host.to_ascii_lowercase().into(),
        _ => host.into(),
    }
}

/// The IP address that a host is, if it is one. An IPv4 address in another form than four decimal
/// numbers counts as a name: programs differ in how they read `0177.1`.
fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => host.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == default_port(self.secure) {
            return Ok(());
        }
        write!(f, ":{}", self.port)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({self})")
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        // The `http` crate silently drops a fragment.
        if text.contains('#') {
            return Err(InvalidOrigin::Extra("a fragment"));
        }
        let uri: Uri = text.parse().map_err(|_| InvalidOrigin::Unreadable)?;
        let authority = uri.authority().ok_or(InvalidOrigin::NoOrigin)?;
        if authority.as_str().contains('@') {
            return Err(InvalidOrigin::Extra("user info"));
        }
        let has_port = authority.as_str().len() > authority.host().len();
        if has_port && authority.port_u16().is_none_or(|port| port == 0) {
            return Err(InvalidOrigin::Port);
        }
        if authority.host().contains('*') {
            return Err(InvalidOrigin::Wildcard);
        }
        let origin = Self::of(&uri).ok_or(InvalidOrigin::NoOrigin)?;
        if uri.query().is_some() {
            return Err(InvalidOrigin::Extra("a query"));
        }
        if uri.path() != "/" {
            return Err(InvalidOrigin::Extra("a path"));
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

// ===== impl InvalidOrigin =====

/// A text that is not an origin, or an origin that cannot be added to the layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidOrigin {
    /// The text cannot be read as a URI at all.
    #[error("the origin is not a valid URI: write it like `https://api.example.com`")]
    Unreadable,
    /// The scheme or the host is missing, or the scheme is neither `https` nor `http`.
    #[error(
        "the origin needs a scheme, `https` or `http`, and a host: write it like \
         `https://api.example.com`"
    )]
    NoOrigin,
    /// The text has more than an origin has.
    #[error("the origin has {0}: an origin is a scheme, a host and perhaps a port")]
    Extra(&'static str),
    /// The port is not a number from 1 to 65535.
    #[error("the origin's port is not a number from 1 to 65535")]
    Port,
    /// The host has a `*` in it.
    #[error(
        "the origin has a `*` in its host: name each origin that gets the token, or call \
         `.any_https()` if every https origin may get it"
    )]
    Wildcard,
    /// The origin is plain `http` on another machine.
    #[error(
        "the origin {0} is plain http: everyone on the network path could read the token. Use \
         https, or, if you must, call `.allow_plaintext()`"
    )]
    Plaintext(Origin),
    /// [`assume_origin`](crate::BearerAuthLayer::assume_origin) got an origin that was not named
    /// too.
    #[error("the origin {0} is assumed but not named: name it too, with `.origin(\"{0}\")`")]
    NotNamed(Origin),
    /// The layer has no origin at all.
    #[error(
        "no origin gets the layer's token: name one with `.origin(\"https://api.example.com\")`, or \
         call `.any_https()`"
    )]
    NoneNamed,
    /// The layer requires a subject, but the origin has one token for all subjects.
    #[error(
        "the layer requires a subject, but the origin {0} has one token for all requests: give it \
         a `KeyedTokenCache`"
    )]
    NotForSubjects(Origin),
    /// The origin already has a token, from another cache.
    #[error(
        "the origin {0} already has a token: name each origin in one `.origin` or `.route` only"
    )]
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

    #[test]
    fn brackets_without_an_ipv6_address_are_no_origin() {
        for text in [
            "http://[0:0:0:0:0:0*0:1]",
            "https://[a]",
            "https://[fe80::1%25eth0]",
            "https://[v1.a]",
            "http://$[::2]:8",
            "http://[:@%:1]:8080",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
            assert_eq!(text.parse::<Uri>().ok().and_then(|uri| Origin::of(&uri)), None, "{text}");
        }
    }

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
    fn an_address_is_the_same_however_it_is_written() {
        for written in ["[0:0:0:0:0:0:0:1]", "[::1]", "[0000::0001]", "[::0:1]", "[::0.0.0.1]"] {
            assert_eq!(origin(&format!("http://{written}")), origin("http://[::1]"), "{written}");
        }
        let long = origin("https://[2001:DB8:0:0:0:0:0:A]:8443");
        assert_eq!(long, origin("https://[2001:db8::a]:8443"));
        assert_eq!(long.to_string(), "https://[2001:db8::a]:8443");
        assert_eq!(origin("http://[::FFFF:7f00:1]"), origin("http://[::ffff:127.0.0.1]"));
        assert_ne!(origin("http://[::1]"), origin("http://[::2]"));
        assert_ne!(origin("http://[::1]"), origin("http://127.0.0.1"));
        assert_ne!(origin("http://[::ffff:127.0.0.1]"), origin("http://127.0.0.1"));
    }

    #[test]
    fn equal_origins_have_equal_hashes() {
        let written = ["http://[0:0:0:0:0:0:0:1]:80", "http://[::1]", "HTTP://[::1]:80/"];
        let origins: std::collections::HashSet<_> = written.map(origin).into();
        assert_eq!(origins.len(), 1);
    }

    #[test]
    fn a_dot_at_the_end_makes_another_host() {
        assert_ne!(origin("https://a.example."), origin("https://a.example"));
        assert_eq!(origin("https://a.example.").to_string(), "https://a.example.");
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
            ("https://*.a.example", InvalidOrigin::Wildcard),
            ("https://*", InvalidOrigin::Wildcard),
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
        assert_eq!(found.host(), "evil.example");
        assert!(!format!("{found} {found:?}").contains("pw"));
    }

    #[test]
    fn a_number_that_is_no_port_is_not_the_schemes_own() {
        let of = |text: &str| Origin::of(&text.parse::<Uri>().ok()?);
        for text in ["https://a.example:99999/", "https://[::1]:65536/", "http://a.example:123456/"]
        {
            assert_eq!(of(text), None, "{text}");
        }
        for text in ["https://a.example/", "https://u:1@a.example/", "https://[2001:db8::1]/"] {
            assert_eq!(of(text).unwrap().port(), 443, "{text}");
        }
        assert_eq!(of("https://u:1@[::1]:8443/").unwrap().port(), 8443);
    }

    #[test]
    fn a_uri_without_scheme_or_authority_names_no_origin() {
        for uri in ["/path", "a.example:443", "*", "ftp://a.example/"] {
            assert_eq!(of(uri), None, "{uri}");
        }
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for host in [
            "localhost",
            "LOCALHOST:1",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]:8080",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::FFFF:7f12:1]",
        ] {
            assert!(origin(&format!("http://{host}")).is_loopback(), "{host}");
        }
        for host in [
            "localhost.evil.example",
            "evillocalhost",
            "evil-localhost",
            "a.evillocalhost",
            "localhosts",
            "127.0.0.1.evil.example",
            "128.0.0.1",
            "[::2]",
            "[::ffff:128.0.0.1]",
            "[::127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "0.0.0.0",
            "[::]",
            "127.1",
            "0177.0.0.1",
            "localhost.",
        ] {
            assert!(!origin(&format!("http://{host}")).is_loopback(), "{host}");
        }
    }
}
