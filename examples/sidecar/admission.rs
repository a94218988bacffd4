//! Admits the requests that are meant for this sidecar and that it can forward.

use std::net::{IpAddr, Ipv6Addr};

use http::{
    HeaderMap, Method, Request, StatusCode, Uri,
    header::{HOST, ORIGIN},
    uri::Authority,
};
use tower_bearer::Origin;

use crate::{answer::Refusal, headers::has_unknown_coding, path::is_traversal};

/// Decides by the names that a request uses for this sidecar. A page in a browser can send
/// requests to any address, and its owner can point any DNS name at any address. The page cannot
/// hide that name or its own origin from this sidecar.
pub(crate) struct Admission {
    /// Names of this sidecar, in addition to those of the loopback and its own address.
    hosts: Vec<Host>,
}

#[derive(PartialEq)]
enum Host {
    Address(IpAddr),
    /// In lower case.
    Name(String),
}

// ===== impl Admission =====

impl Admission {
    /// `hosts` are names or addresses, without ports.
    pub(crate) fn new(hosts: &[String]) -> Result<Self, String> {
        let hosts = hosts.iter().map(|host| {
            let authority = host.parse::<Authority>().ok().or_else(|| bracketed(host));
            let bare = authority.filter(|name| name.port().is_none() && !has_user(name));
            match bare.map(|name| Host::of(&name)) {
                // It identifies no host, and any page can use it.
                Some(Host::Address(address)) if address.is_unspecified() => {
                    Err(format!("`hosts`: {host} does not identify a host"))
                }
                Some(host) => Ok(host),
                None => Err(format!("`hosts`: {host:?} is not a plain host name or address")),
            }
        });
        Ok(Self { hosts: hosts.collect::<Result<_, _>>()? })
    }

    /// Refuses requests that no upstream may get. `local` is the address that the client connected
    /// to.
    pub(crate) fn check<B>(&self, request: &Request<B>, local: IpAddr) -> Result<(), Refusal> {
        let names = names(request.uri(), request.headers());
        let names =
            names.ok_or(Refusal(StatusCode::BAD_REQUEST, "the request needs exactly one Host"))?;
        if !names.iter().all(|name| self.is_own(name, local)) {
            let problem = "the request names a host that is not this sidecar: use the sidecar's \
                           own address, or add the name to `hosts`";
            return Err(Refusal(StatusCode::MISDIRECTED_REQUEST, problem));
        }
        if !self.is_same_origin(request.headers(), &names) {
            let problem = "pages of other origins must not use the sidecar";
            return Err(Refusal(StatusCode::FORBIDDEN, problem));
        }
        forwardable(request)
    }

    /// Whether the name can only mean this sidecar: a loopback name, the address that the client
    /// connected to, or a configured name. An attacker's DNS can define any other name, and with
    /// `0.0.0.0` a page gets around the browser's protection of the loopback.
    fn is_own(&self, name: &Authority, local: IpAddr) -> bool {
        let host = Host::of(name);
        let is_ours = match &host {
            Host::Address(address) => address.is_loopback() || *address == local.to_canonical(),
            Host::Name(name) => name.rsplit('.').next() == Some("localhost"),
        };
        is_ours || self.hosts.contains(&host)
    }

    /// Whether the request comes from no page, or from a page of this sidecar. Browsers send
    /// `Sec-Fetch-Site` only to trustworthy URLs, and `Origin` with requests that could do harm.
    fn is_same_origin(&self, headers: &HeaderMap, names: &[Authority]) -> bool {
        let mut sites = headers.get_all("sec-fetch-site").iter();
        let mut origins = headers.get_all(ORIGIN).iter();
        sites.all(|site| site == "none" || site == "same-origin")
            && origins.all(|origin| {
                let origin = origin.to_str().ok().and_then(|origin| origin.parse().ok());
                origin.is_some_and(|origin| {
                    names.iter().all(|name| self.is_own_origin(name, &origin))
                })
            })
    }

    /// Whether `origin` is this sidecar under `name`. For a configured name https counts too: a
    /// proxy in front of the sidecar may terminate TLS.
    fn is_own_origin(&self, name: &Authority, origin: &Origin) -> bool {
        let is = |scheme: &str| {
            format!("{scheme}://{name}").parse().is_ok_and(|own: Origin| own == *origin)
        };
        is("http") || (is("https") && self.hosts.contains(&Host::of(name)))
    }
}

// ===== impl Host =====

impl Host {
    fn of(name: &Authority) -> Self {
        let host = name.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match bare.unwrap_or(host).parse::<IpAddr>() {
            // `[::ffff:127.0.0.1]` is 127.0.0.1.
            Ok(address) => Self::Address(address.to_canonical()),
            Err(_) => Self::Name(host.to_ascii_lowercase()),
        }
    }
}

/// Parses an IPv6 address without brackets.
fn bracketed(host: &str) -> Option<Authority> {
    let address: Ipv6Addr = host.parse().ok()?;
    format!("[{address}]").parse().ok()
}

/// Every host that the request names; `None` if there is none, or more than one `Host` field.
fn names(uri: &Uri, headers: &HeaderMap) -> Option<Vec<Authority>> {
    let mut names: Vec<_> = uri.authority().cloned().into_iter().collect();
    let mut hosts = headers.get_all(HOST).iter();
    if let Some(host) = hosts.next() {
        names.push(host.to_str().ok()?.parse().ok()?);
    }
    let is_clear = hosts.next().is_none() && !names.is_empty() && !names.iter().any(has_user);
    is_clear.then_some(names)
}

/// HTTP forbids user info in a host (RFC 9110 §4.2.4, §7.2).
fn has_user(name: &Authority) -> bool {
    name.as_str().contains('@')
}

fn forwardable<B>(request: &Request<B>) -> Result<(), Refusal> {
    // A TRACE would show the token to the client. A CONNECT names the destination itself.
    if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
        let problem = "TRACE and CONNECT are not forwarded";
        return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, problem));
    }
    if !request.uri().path().starts_with('/') || is_traversal(request.uri().path()) {
        let problem = "the path is not absolute, or some server could read `.`, `..` or a control \
                       character in it";
        return Err(Refusal(StatusCode::BAD_REQUEST, problem));
    }
    if has_unknown_coding(request.headers()) {
        let problem = "the only supported transfer coding is `chunked`";
        return Err(Refusal(StatusCode::NOT_IMPLEMENTED, problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// The status for a request, with `sidecar.internal`, `10.0.0.9` and `fd00::9` in `hosts`.
    fn status(uri: &str, fields: &[(&str, &str)], local: IpAddr) -> u16 {
        let hosts = ["Sidecar.internal", "10.0.0.9", "fd00::9"].map(ToOwned::to_owned);
        let mut request = Request::get(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let admission = Admission::new(&hosts).unwrap();
        let checked = admission.check(&request.body(()).unwrap(), local);
        checked.map_or_else(|Refusal(status, _)| status.as_u16(), |()| 200)
    }

    #[test]
    fn a_name_that_can_only_mean_this_sidecar_is_admitted() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]",
            "[0:0:0:0:0:0:0:1]:8080",
            "[::ffff:127.0.0.1]",
            "sidecar.INTERNAL:8080",
            "10.0.0.9",
            "[fd00::9]:8080",
        ] {
            assert_eq!(status("/", &[("host", host)], LOOPBACK), 200, "{host}");
            // The same name in the URI, as in HTTP/2.
            assert_eq!(status(&format!("http://{host}/"), &[], LOOPBACK), 200, "{host}");
        }
        let local = "192.168.1.5".parse().unwrap();
        assert_eq!(status("/", &[("host", "192.168.1.5:8080")], local), 200);
        let dual_stack = "::ffff:192.168.1.5".parse().unwrap();
        assert_eq!(status("/", &[("host", "192.168.1.5:8080")], dual_stack), 200);
    }

    #[test]
    fn a_name_that_could_mean_another_host_is_refused() {
        for host in [
            "0.0.0.0",
            "0.0.0.0:8080",
            "[::]",
            "[::]:8080",
            "[::ffff:0.0.0.0]",
            "0",
            "0x0",
            "0.0.0.0.",
            "2130706433",
            "192.168.1.5",
            "[fe80::1]",
            "evil.example",
            "evillocalhost",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "sidecar.internal.evil.example",
            "localhost.",
        ] {
            assert_eq!(status("/", &[("host", host)], LOOPBACK), 421, "{host}");
            assert_eq!(status(&format!("http://{host}/"), &[], LOOPBACK), 421, "{host}");
            // A known name beside it does not help.
            let absolute = format!("http://{host}/");
            assert_eq!(status(&absolute, &[("host", "localhost")], LOOPBACK), 421, "{host}");
            let own = "http://localhost/";
            assert_eq!(status(own, &[("host", host)], LOOPBACK), 421, "{host}");
        }
    }

    #[test]
    fn a_request_without_a_single_clear_host_is_refused() {
        for fields in [
            &[][..],
            &[("host", "localhost"), ("host", "localhost")],
            &[("host", "")],
            &[("host", "me@localhost")],
            &[("host", "evil.example/@localhost")],
        ] {
            assert_eq!(status("/", fields, LOOPBACK), 400, "{fields:?}");
        }
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        for origin in [
            "null",
            "http://evil.example",
            "https://evil.example",
            // Another program on this machine may serve this page.
            "http://localhost:3000",
            "http://localhost",
            "https://localhost:8080",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "http://0.0.0.0:8080",
            "http://localhost:8080.evil.example",
            "http://evil.example#localhost:8080",
            "chrome-extension://abc",
            "file://",
            "",
            "http://localhost:8080, http://evil.example",
        ] {
            let fields = [("host", "localhost:8080"), ("origin", origin)];
            assert_eq!(status("/", &fields, LOOPBACK), 403, "{origin}");
            let fields = [("origin", origin)];
            assert_eq!(status("http://localhost:8080/", &fields, LOOPBACK), 403, "{origin}");
        }
        for sites in [&["cross-site"][..], &["same-site"], &["none", "cross-site"], &["what"]] {
            let mut fields = vec![("host", "localhost:8080")];
            fields.extend(sites.iter().map(|site| ("sec-fetch-site", *site)));
            assert_eq!(status("/", &fields, LOOPBACK), 403, "{sites:?}");
        }
        let two = ["http://localhost:8080", "http://evil.example"];
        let fields = two.map(|origin| ("origin", origin));
        assert_eq!(status("http://localhost:8080/", &fields, LOOPBACK), 403);
    }

    #[test]
    fn a_page_of_the_sidecars_own_origin_is_admitted() {
        for (host, origin) in [
            ("localhost:8080", "http://LOCALHOST:8080"),
            ("localhost", "http://localhost:80"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("sidecar.internal", "http://sidecar.internal"),
            ("sidecar.internal", "https://sidecar.internal"),
        ] {
            let fields = [("host", host), ("origin", origin)];
            assert_eq!(status("/", &fields, LOOPBACK), 200, "{origin}");
        }
        for site in ["none", "same-origin"] {
            let fields = [("host", "localhost"), ("sec-fetch-site", site)];
            assert_eq!(status("/", &fields, LOOPBACK), 200, "{site}");
        }
    }

    #[test]
    fn an_invalid_entry_in_hosts_is_an_error() {
        for host in ["", "a:80", "http://a", "a/b", "0.0.0.0", "::", "[::]", "[::1]:80", "me@a"] {
            let error = Admission::new(&[host.to_owned()]).err();
            assert!(error.is_some_and(|error| error.starts_with("`hosts`: ")), "{host}");
        }
    }
}
