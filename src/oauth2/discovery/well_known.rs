//! The URLs of an issuer's metadata (RFC 8414 §3.1, `OpenID` Connect Discovery §4).

use http::{Uri, uri::PathAndQuery};

/// The two URLs, in the order in which they are tried. RFC 8414 inserts its segment between the
/// host and the path of the issuer, `OpenID` Connect appends it to the path. Both first drop a
/// trailing `/`.
pub(in crate::oauth2) fn urls(issuer: &Uri) -> Option<[Uri; 2]> {
    let path = issuer.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    let inserted = format!("/.well-known/oauth-authorization-server{path}");
    let appended = format!("{path}/.well-known/openid-configuration");
    Some([at(issuer, &inserted)?, at(issuer, &appended)?])
}

fn at(issuer: &Uri, path: &str) -> Option<Uri> {
    let mut parts = issuer.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_segment_goes_before_the_path_and_the_other_after_it() {
        for (issuer, oauth, openid) in [
            ("https://a.example", "", ""),
            ("https://a.example/", "", ""),
            ("https://a.example/tenant", "/tenant", "/tenant"),
            ("https://a.example/tenant/", "/tenant", "/tenant"),
            ("https://a.example/a/b%20c/", "/a/b%20c", "/a/b%20c"),
        ] {
            let [one, other] = urls(&issuer.parse().unwrap()).unwrap();
            let expected =
                format!("https://a.example/.well-known/oauth-authorization-server{oauth}");
            assert_eq!(one, *expected, "{issuer}");
            let expected = format!("https://a.example{openid}/.well-known/openid-configuration");
            assert_eq!(other, *expected, "{issuer}");
        }
    }

    #[test]
    fn the_port_stays() {
        let [one, _] = urls(&"http://127.0.0.1:8080/realms/x".parse().unwrap()).unwrap();
        let expected = "http://127.0.0.1:8080/.well-known/oauth-authorization-server/realms/x";
        assert_eq!(one, expected);
    }
}
