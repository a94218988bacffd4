//! Header fields that are meant for one hop (RFC 9110 §7.6.1).

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        AUTHORIZATION, CONNECTION, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
        TRANSFER_ENCODING, UPGRADE, VIA,
    },
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// What goes to the upstream. `Host` is written anew from the URI, and the client's own
/// `Authorization` makes room for the token.
pub(crate) fn onward(headers: &mut HeaderMap) {
    let takes_trailers = headers.get_all(TE).iter().any(|value| {
        let codings = value.to_str().unwrap_or_default().split(',');
        codings.map(str::trim).any(|coding| coding.eq_ignore_ascii_case("trailers"))
    });
    end_of_hop(headers);
    headers.remove(HOST);
    headers.remove(AUTHORIZATION);
    // A gateway has to (§7.6.3); trailers are passed on, so their announcement may be too.
    headers.append(VIA, HeaderValue::from_static("1.1 sidecar"));
    if takes_trailers {
        headers.insert(TE, TRAILERS);
    }
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
        onward(&mut headers);
        let expected = map(&[
            ("te", "trailers"),
            ("accept", "*/*"),
            ("trailer", "x-sum"),
            ("via", "1.0 fred"),
            ("via", "1.1 sidecar"),
        ]);
        assert_eq!(headers, expected);
    }
}
