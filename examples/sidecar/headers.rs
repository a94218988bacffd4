//! Header fields that are meant for one hop (RFC 9110 §7.6.1), and those that differ between the
//! versions of HTTP on either side.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        AUTHORIZATION, CONNECTION, COOKIE, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
        TRANSFER_ENCODING, UPGRADE, VIA,
    },
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

/// What goes to the upstream. `Host` is written anew from the URI. The client's own
/// `Authorization` is not meant for the upstream, and the header `of_token` makes room for the token.
pub(crate) fn onward(headers: &mut HeaderMap, of_token: &HeaderName) {
    let takes_trailers = headers.get_all(TE).iter().any(|value| {
        let codings = value.to_str().unwrap_or_default().split(',');
        codings.map(str::trim).any(|coding| coding.eq_ignore_ascii_case("trailers"))
    });
    end_of_hop(headers);
    headers.remove(HOST);
    headers.remove(AUTHORIZATION);
    headers.remove(of_token);
    // A gateway has to (§7.6.3); trailers are passed on, so their announcement may be too.
    headers.append(VIA, HeaderValue::from_static("1.1 sidecar"));
    if takes_trailers {
        headers.insert(TE, TRAILERS);
    }
    join_cookies(headers);
}

/// Announces a body of unknown length. The client leaves the body of a `GET` or a `HEAD` away over
/// HTTP/1 unless this says that there is one; over HTTP/2 it leaves this field away.
pub(crate) fn announce_chunks(headers: &mut HeaderMap) {
    headers.insert(TRANSFER_ENCODING, CHUNKED);
}

/// Whether the message is in a transfer coding that nobody here takes off. It is meant for one
/// hop, so that the next one would take the coded body for the body (RFC 9112 §6.1).
pub(crate) fn has_unknown_coding(headers: &HeaderMap) -> bool {
    let mut is_chunked = false;
    headers.get_all(TRANSFER_ENCODING).iter().any(|value| {
        let Ok(codings) = value.to_str() else { return true };
        codings.split(',').map(str::trim).any(|coding| match coding.to_ascii_lowercase().as_str() {
            // Once: only the outermost is taken off.
            "chunked" => std::mem::replace(&mut is_chunked, true),
            // No coding at all, in older standards.
            "" | "identity" => false,
            _ => true,
        })
    })
}

/// HTTP/2 may split the field into one for each cookie; no other version knows that
/// (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() < 2 {
        return;
    }
    let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]));
    let mut joined = joined.expect("what was in header values can be in one");
    joined.set_sensitive(headers.get_all(COOKIE).iter().any(HeaderValue::is_sensitive));
    headers.insert(COOKIE, joined);
}

/// What goes back to the client, or is common to both ways.
pub(crate) fn end_of_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let always = [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        PROXY_CONNECTION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    for name in named.into_iter().chain(always) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn fields_for_one_hop_stay_and_the_others_go_on() {
        let mut headers = map(&[
            ("connection", "close, X-Secret-Hop"),
            ("x-secret-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic eA=="),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("host", "localhost"),
            ("authorization", "Bearer mine"),
            ("accept", "*/*"),
            ("trailer", "x-sum"),
            ("via", "1.0 fred"),
        ]);
        onward(&mut headers, &AUTHORIZATION);
        let expected = map(&[
            ("te", "trailers"),
            ("accept", "*/*"),
            ("trailer", "x-sum"),
            ("via", "1.0 fred"),
            ("via", "1.1 sidecar"),
        ]);
        assert_eq!(headers, expected);
    }
    #[test]
    fn crumbs_of_cookies_are_joined() {
        let mut headers = map(&[("cookie", "a=1"), ("x", "1"), ("cookie", "b=2; c=3")]);
        headers.append(COOKIE, HeaderValue::from_bytes(b"d=\xff").unwrap());
        onward(&mut headers, &AUTHORIZATION);
        let cookies: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(cookies, [b"a=1; b=2; c=3; d=\xff"]);
        assert!(!headers[COOKIE].is_sensitive());

        let mut secret = HeaderValue::from_static("e=5");
        secret.set_sensitive(true);
        headers.append(COOKIE, secret);
        onward(&mut headers, &AUTHORIZATION);
        assert!(headers[COOKIE].is_sensitive());
    }

    #[test]
    fn one_chunked_is_understood_and_no_other_coding() {
        for lines in [&[][..], &["chunked"], &["Chunked"], &[" , chunked ,"], &["identity"]] {
            assert!(!has_unknown_coding(&codings(lines)), "{lines:?}");
        }
        for lines in [
            &["gzip, chunked"][..],
            &["gzip", "chunked"],
            &["chunked", "gzip"],
            &["chunked, chunked"],
            &["chunked", "chunked"],
            &["chunked;q=1"],
            &["x"],
        ] {
            assert!(has_unknown_coding(&codings(lines)), "{lines:?}");
        }
    }

    fn codings(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (TRANSFER_ENCODING, HeaderValue::from_static(line))).collect()
    }
}
