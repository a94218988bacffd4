//! The address of a Redis server, from its URL.

use std::net::IpAddr;

use url::{Host, Url};

use super::error::RedisStoreError;

const PORT: u16 = 6379;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_tls: bool,
    pub(super) is_loopback: bool,
    pub(super) user: Option<String>,
    pub(super) database: u16,
}

impl Address {
    /// Parses a URL: `redis://` or, with TLS, `rediss://`; `valkey` is a synonym of `redis`. It
    /// may have a user and a database number.
    pub(super) fn parse(url: &str) -> Result<Self, RedisStoreError> {
        let invalid = RedisStoreError::InvalidUrl;
        // The error does not show the URL, as it may contain a password.
        let url = Url::parse(url).map_err(|_| invalid("is not a URL"))?;
        let is_tls = match url.scheme() {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err(invalid("has a scheme other than `redis` and `rediss`")),
        };
        if url.password().is_some() {
            return Err(RedisStoreError::PasswordInUrl);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("has a query or a fragment"));
        }
        // For schemes outside the web the parser takes even an IPv4 address for a domain.
        let (host, is_loopback) = match url.host() {
            Some(Host::Domain(host)) if !host.is_empty() => host_of(host),
            Some(Host::Ipv4(address)) => (address.to_string(), address.is_loopback()),
            Some(Host::Ipv6(address)) => {
                (address.to_string(), address.to_canonical().is_loopback())
            }
            _ => return Err(invalid("has no host")),
        };
        let user = Some(url.username()).filter(|user| !user.is_empty()).map(decoded).transpose()?;
        let database = match url.path().trim_matches('/') {
            "" => 0,
            number => {
                number.parse().map_err(|_| invalid("has a path that is not a database number"))?
            }
        };
        let port = url.port().unwrap_or(PORT);
        Ok(Self { host, port, is_tls, is_loopback, user, database })
    }

    /// The address for messages.
    pub(super) fn shown(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// The host, and whether it is a loopback address.
fn host_of(host: &str) -> (String, bool) {
    let is_loopback = match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
    };
    (host.to_owned(), is_loopback)
}

fn decoded(text: &str) -> Result<String, RedisStoreError> {
    // Decoded as a form's value, in which `+` is a space, but in a URL `+` is itself.
    let pair = format!("={}", text.replace('+', "%2B"));
    let value = url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value);
    value
        .filter(|value| !value.contains(char::REPLACEMENT_CHARACTER))
        .map(std::borrow::Cow::into_owned)
        .ok_or(RedisStoreError::InvalidUrl("has a user that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Address {
        Address::parse(url).unwrap()
    }

    #[test]
    fn a_url_says_where_the_server_is_and_who_asks() {
        let all = parsed("rediss://fleet%40x+y@redis.example.com:7000/3");
        assert_eq!((all.shown().as_str(), all.is_tls), ("redis.example.com:7000", true));
        assert_eq!((all.user.as_deref(), all.database), (Some("fleet@x+y"), 3));
        let least = parsed("redis://10.0.0.7");
        assert_eq!((least.shown().as_str(), least.is_tls), ("10.0.0.7:6379", false));
        assert_eq!((least.user, least.database), (None, 0));
        assert_eq!(parsed("valkeys://[2001:db8::1]:1/").shown(), "[2001:db8::1]:1");
    }

    #[test]
    fn loopback_is_this_machine_alone() {
        for host in ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "[::ffff:127.0.0.1]"] {
            assert!(parsed(&format!("redis://{host}:1")).is_loopback, "{host}");
        }
        for host in ["10.0.0.1", "localhost.example.com", "127.0.0.1.example.com", "[2001:db8::1]"]
        {
            assert!(!parsed(&format!("redis://{host}:1")).is_loopback, "{host}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused_with_what_to_do_and_shows_no_password() {
        for url in [
            "",
            "redis",
            "redis://",
            "redis:///0",
            "http://host",
            "host:6379",
            "redis://host/x",
            "redis://host/70000",
            "redis://host:99999",
            "redis://:hush@host:99999",
            "redis://host?password=hush",
            "redis://host#hush",
            "unix:///run/redis.sock",
            "redis://%ff@host",
        ] {
            let error = Address::parse(url).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(matches!(error, RedisStoreError::InvalidUrl(_)), "{url}: {shown}");
            assert!(shown.contains("rediss://") && !shown.contains("hush"), "{url}: {shown}");
        }
        for url in ["redis://:hush@host", "rediss://user:hush@host/1"] {
            let error = Address::parse(url).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(matches!(error, RedisStoreError::PasswordInUrl), "{url}: {shown}");
            assert!(shown.contains("`password`") && !shown.contains("hush"), "{url}: {shown}");
        }
    }
}
