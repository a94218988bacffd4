//! Checks the URL of a token service.

use http::Uri;

use crate::origin::Origin;

/// The problem of a URL. It shows at most the URL's origin, as a URL may contain a secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum UrlProblem {
    /// It is not a URL.
    Unreadable,
    /// It has a fragment, which is never sent.
    Fragment,
    /// It has user info.
    UserInfo,
    /// Its port is not a number from 1 to 65535.
    Port,
    /// It lacks a host, or a scheme that is `https` or `http`.
    NotAbsolute,
    /// It is plain `http` to another host.
    Plaintext(Origin),
}

/// Parses a URL: absolute, `https` unless the host is loopback, without user info and fragment.
pub(super) fn parse(url: &str, allow_plaintext: bool) -> Result<(Uri, Origin), UrlProblem> {
    // The `http` crate silently drops a fragment.
    if url.contains('#') {
        return Err(UrlProblem::Fragment);
    }
    let uri: Uri = url.parse().map_err(|_| UrlProblem::Unreadable)?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = uri.host().unwrap_or_default();
    if authority.contains('@') {
        return Err(UrlProblem::UserInfo);
    }
    // The `http` crate accepts `host:` and `host:99999` as authorities.
    let has_port = authority.len() > host.len();
    if has_port && uri.port_u16().is_none_or(|port| port == 0) {
        return Err(UrlProblem::Port);
    }
    let origin = Origin::of(&uri).ok_or(UrlProblem::NotAbsolute)?;
    if !origin.is_https() && !origin.is_loopback() && !allow_plaintext {
        return Err(UrlProblem::Plaintext(origin));
    }
    Ok((uri, origin))
}
