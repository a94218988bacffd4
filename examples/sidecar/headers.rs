//! Header fields that are meant for one hop (RFC 9110 §7.6.1), and fields that differ between
//! versions of HTTP.

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

/// Prepares the header fields of a request for the upstream. The HTTP client writes `Host` from the
/// URI. `Authorization` from the client is not meant for the upstream, and the token takes the
/// place of `token_header`.
pub(crate) fn prepare_for_upstream(headers: &mut HeaderMap, token_header: &HeaderName) {
    let takes_trailers = headers.get_all(TE).iter().any(|value| {
        let codings = value.to_str().unwrap_or_default().split(',');
        codings.map(str::trim).any(|coding| coding.eq_ignore_ascii_case("trailers"))
    });
    remove_hop_by_hop(headers);
    headers.remove(HOST);
    headers.remove(AUTHORIZATION);
    headers.remove(token_header);
    // §7.6.3 requires it of a gateway.
    headers.append(VIA, HeaderValue::from_static("1.1 sidecar"));
    // The sidecar forwards trailers, so the upstream may send them.
    if takes_trailers {
        headers.insert(TE, TRAILERS);
    }
    join_cookies(headers);
}

/// Announces a body of unknown length. Without this field the HTTP client drops the body of a `GET`
/// or a `HEAD` over HTTP/1. Over HTTP/2 it drops the field.
pub(crate) fn announce_chunks(headers: &mut HeaderMap) {
    headers.insert(TRANSFER_ENCODING, CHUNKED);
}

/// Whether the message has a transfer coding that the sidecar does not decode. A transfer coding is
/// for one hop: the next hop would take the coded body for the body itself (RFC 9112 §6.1).
pub(crate) fn has_unknown_coding(headers: &HeaderMap) -> bool {
    let mut is_chunked = false;
    headers.get_all(TRANSFER_ENCODING).iter().any(|value| {
        let Ok(codings) = value.to_str() else { return true };
        codings.split(',').map(str::trim).any(|coding| match coding.to_ascii_lowercase().as_str() {
            // Only once: hyper decodes only the outermost coding.
            "chunked" => std::mem::replace(&mut is_chunked, true),
            // Older standards use these for no coding.
            "" | "identity" => false,
            _ => true,
        })
    })
}

/// Joins the cookie fields into one. HTTP/2 may send a field for each cookie, other versions may
/// not (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() < 2 {
        return;
    }
    let joined = HeaderValue::from_bytes(&cookies.join(&b"; "[..]));
    let mut joined = joined.expect("the parts are valid header values");
    joined.set_sensitive(headers.get_all(COOKIE).iter().any(HeaderValue::is_sensitive));
    headers.insert(COOKIE, joined);
}

/// Removes the fields that are meant for one hop. Requests and responses both need this.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
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
    fn fields_for_one_hop_are_removed_and_the_others_are_forwarded() {
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
        prepare_for_upstream(&mut headers, &AUTHORIZATION);
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
    fn several_cookie_fields_are_joined() {
        let mut headers = map(&[("cookie", "a=1"), ("x", "1"), ("cookie", "b=2; c=3")]);
        headers.append(COOKIE, HeaderValue::from_bytes(b"d=\xff").unwrap());
        prepare_for_upstream(&mut headers, &AUTHORIZATION);
        let cookies: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(cookies, [b"a=1; b=2; c=3; d=\xff"]);
        assert!(!headers[COOKIE].is_sensitive());

        let mut secret = HeaderValue::from_static("e=5");
        secret.set_sensitive(true);
        headers.append(COOKIE, secret);
        prepare_for_upstream(&mut headers, &AUTHORIZATION);
        assert!(headers[COOKIE].is_sensitive());
    }

    #[test]
    fn a_single_chunked_is_the_only_known_coding() {
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
