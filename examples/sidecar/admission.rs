//! What is let in: requests that are meant for this sidecar and can be forwarded.

use std::net::IpAddr;

use http::{HeaderMap, Method, Request, StatusCode, Uri, header::HOST, uri::Authority};
use tower_bearer::Origin;

use crate::{answer::Refusal, headers::has_unknown_coding, path::climbs};

pub(crate) struct Admission {
    /// Names of this sidecar, beside those of the loopback.
    hosts: Vec<String>,
}

impl Admission {
    pub(crate) fn new(hosts: Vec<String>) -> Self {
        Self { hosts }
    }

    /// Refuses what must not be forwarded, wherever it goes.
    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let names = names(request.uri(), request.headers());
        let names = names.ok_or(Refusal(StatusCode::BAD_REQUEST, "there is no single Host"))?;
        if !names.iter().all(|name| self.is_known(name)) {
            let problem = "the request names a host that is not this sidecar's: use the \
                           sidecar's own address, or add the name to `hosts`";
            return Err(Refusal(StatusCode::MISDIRECTED_REQUEST, problem));
        }
        if is_from_another_site(request.headers()) {
            let problem = "a page of another site must not use the sidecar";
            return Err(Refusal(StatusCode::FORBIDDEN, problem));
        }
        // A TRACE would show the client the token; a CONNECT names a host.
        if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
            let problem = "TRACE and CONNECT are not forwarded";
            return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, problem));
        }
        if !request.uri().path().starts_with('/') || climbs(request.uri().path()) {
            return Err(Refusal(
                StatusCode::BAD_REQUEST,
                "the path is not absolute, or some server could read `.`, `..` or a control \
                 character in it",
            ));
        }
        if has_unknown_coding(request.headers()) {
            let problem = "of the transfer codings only `chunked` is understood";
            return Err(Refusal(StatusCode::NOT_IMPLEMENTED, problem));
        }
        Ok(())
    }

    /// Whether a name is this machine's: an address cannot be made to mean something else, as a
    /// name in somebody's DNS can.
    fn is_known(&self, name: &Authority) -> bool {
        let host = name.host();
        let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let is_loopback =
            format!("http://{host}").parse::<Origin>().is_ok_and(|origin| origin.is_loopback());
        is_address || is_loopback || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }
}

/// Every host that the request names; `None` if there is none, or more than one `Host`.
fn names(uri: &Uri, headers: &HeaderMap) -> Option<Vec<Authority>> {
    let mut names: Vec<_> = uri.authority().cloned().into_iter().collect();
    let mut hosts = headers.get_all(HOST).iter();
    if let Some(host) = hosts.next() {
        names.push(host.to_str().ok()?.parse().ok()?);
    }
    (hosts.next().is_none() && !names.is_empty()).then_some(names)
}

/// Browsers say so of every request, and let a page send some to anywhere.
fn is_from_another_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    site.is_some_and(|site| site != "none" && site != "same-origin")
}
