//! Where a response came from, if a client below has followed a redirect.

use http::Uri;
#[cfg(feature = "reqwest")]
use url::Url;

#[cfg(feature = "reqwest-middleware")]
use super::Origin;

/// A response extension: the URI that the response came from, if a client below the layer has
/// followed a redirect.
///
/// A 401 from another origin than the one that the request named is no rejection of the token,
/// which did not go there. [`ReqwestService`](crate::oauth2::ReqwestService) sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalUri(pub Uri);

// ===== impl FinalUri =====

impl FinalUri {
    /// The URL that a response came from, if its origin is another than that of the URL that
    /// was asked.
    #[cfg(feature = "reqwest")]
    pub(crate) fn of(url: &Url, asked: &Url) -> Option<Self> {
        // Both come from the same parser, so that each place is written in one way only.
        let is_same = url.scheme() == asked.scheme()
            && url.host_str() == asked.host_str()
            && url.port_or_known_default() == asked.port_or_known_default();
        if is_same { None } else { url.as_str().parse().ok().map(Self) }
    }
}

/// Where a response came from, if that is another origin than the one that was asked.
#[cfg(feature = "reqwest-middleware")]
pub(crate) fn final_uri(response: &reqwest::Response, asked: Option<&Origin>) -> Option<Uri> {
    let url = response.url();
    if asked.is_some_and(|asked| is_at(url, asked)) { None } else { url.as_str().parse().ok() }
}

#[cfg(feature = "reqwest-middleware")]
fn is_at(url: &Url, origin: &Origin) -> bool {
    origin.is_https() == (url.scheme() == "https")
        && url.port_or_known_default() == Some(origin.port())
        // A URL's parser writes some addresses in another way than an origin does.
        && (url.host_str() == Some(origin.host())
            || url.host().map(|host| host.to_owned()) == url::Host::parse(origin.host()).ok())
}

#[cfg(all(test, feature = "reqwest"))]
mod tests {
    use super::*;

    /// Requests as they are written, and URLs that they lead to, redirects or not.
    const SAME: [(&str, &str); 7] = [
        ("http://[0:0:0:0:0:0:0:1]:8080/a", "http://[::1]:8080/b"),
        ("http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/"),
        ("http://[::FFFF:7F00:1]/", "http://[::ffff:127.0.0.1]/"),
        ("http://127.1/", "http://127.0.0.1/"),
        ("https://API.example.com/", "https://api.example.com:443/"),
        ("https://api.example.com:443/", "https://api.example.com/"),
        ("https://api.example.com./", "https://api.example.com./"),
    ];
    const OTHER: [(&str, &str); 5] = [
        ("http://[0:0:0:0:0:0:0:1]/", "http://[::2]/"),
        ("http://127.0.0.1/", "http://[::ffff:127.0.0.1]/"),
        ("https://api.example.com/", "http://api.example.com/"),
        ("https://api.example.com/", "https://api.example.com:8443/"),
        ("https://api.example.com/", "https://api.example.com./"),
    ];

    #[test]
    fn a_response_of_the_same_origin_is_none_of_another_however_it_was_written() {
        let has_moved = |asked: &str, from: &str| {
            // As reqwest makes its own request of one.
            let asked: Uri = asked.parse().unwrap();
            let asked = Url::parse(&asked.to_string()).unwrap();
            FinalUri::of(&from.parse().unwrap(), &asked).is_some()
        };
        for (asked, from) in SAME {
            assert!(!has_moved(asked, from), "{asked} {from}");
        }
        for (asked, from) in OTHER {
            assert!(has_moved(asked, from), "{asked} {from}");
        }
    }

    #[cfg(feature = "reqwest-middleware")]
    #[test]
    fn an_origin_is_found_again_in_a_url_that_leads_to_it() {
        use reqwest::ResponseBuilderExt;

        let has_moved = |asked: &str, from: &str| {
            let asked = Origin::of(&asked.parse().unwrap());
            let response = http::Response::builder().url(from.parse().unwrap()).body("").unwrap();
            final_uri(&response.into(), asked.as_ref()).is_some()
        };
        for (asked, from) in SAME {
            assert!(!has_moved(asked, from), "{asked} {from}");
        }
        for (asked, from) in OTHER {
            assert!(has_moved(asked, from), "{asked} {from}");
        }
    }
}
