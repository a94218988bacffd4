//! A `reqwest::Client` as a tower service over the types of the `http` crate.
//!
//! There is one such adapter, for the token endpoint and for the innermost place of a client
//! stack alike.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
#[cfg(feature = "reqwest-middleware")]
use http::Uri;
use http_body::Body;
use pin_project_lite::pin_project;
use reqwest::{Client, Error, Url};
use tower_service::Service;
#[cfg(feature = "reqwest-middleware")]
use url::Host;

#[cfg(feature = "reqwest-middleware")]
use crate::origin::Origin;
use crate::{error::BoxError, origin::FinalUri};

/// A [`reqwest::Client`] as a [`Service`] that takes an [`http::Request`] and gives an
/// [`http::Response`], as the other services of a client stack do.
///
/// ```no_run
/// use http::Request;
/// use tower::{ServiceBuilder, ServiceExt, timeout::TimeoutLayer};
/// use tower_bearer::oauth2::ReqwestService;
///
/// # async fn call() -> Result<(), tower_bearer::BoxError> {
/// let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
/// let stack = ServiceBuilder::new()
///     .layer(TimeoutLayer::new(std::time::Duration::from_secs(30)))
///     .service(ReqwestService::new(client));
/// let request = Request::get("https://api.example.com/").body(reqwest::Body::default())?;
/// let response = stack.oneshot(request).await?;
/// # Ok(())
/// # }
/// ```
///
/// It is always ready, and cheap to clone. It takes every body whose data become [`Bytes`]; the
/// body is `Sync + 'static` because reqwest boxes it. Connections, proxies, TLS and redirects
/// are the client's matter. A client that follows redirects does so below every layer: turn
/// that off, as above, and put a layer for it on top. A response that came from another origin
/// all the same has the extension [`FinalUri`](crate::FinalUri).
///
/// # Errors
///
/// reqwest's own, with the user info, the query and the fragment taken out of their URL, since
/// those may hold secrets. Scheme, host, port and path stay.
#[derive(Clone, Debug, Default)]
pub struct ReqwestService {
    client: Client,
}

pin_project! {
    /// The future of a [`ReqwestService`].
    pub struct ReqwestFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State {
        /// Waits for the head of the response to a request that went there.
        Pending {
            #[pin]
            response: <Client as Service<reqwest::Request>>::Future,
            asked: Url,
        },
        /// The request is none that reqwest takes.
        Refused { error: Option<Error> },
    }
}

// ===== impl ReqwestService =====

impl ReqwestService {
    /// Wraps a client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client.
    #[must_use]
    pub fn get_ref(&self) -> &Client {
        &self.client
    }

    /// Gives the client back.
    #[must_use]
    pub fn into_inner(self) -> Client {
        self.client
    }
}

impl From<Client> for ReqwestService {
    fn from(client: Client) -> Self {
        Self::new(client)
    }
}

impl<B> Service<http::Request<B>> for ReqwestService
where
    B: Body + Send + Sync + 'static,
    B::Data: Into<Bytes>,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<reqwest::Body>;
    type Error = Error;
    type Future = ReqwestFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Service::<reqwest::Request>::poll_ready(&mut self.client, cx)
    }

    fn call(&mut self, request: http::Request<B>) -> ReqwestFuture {
        let state = match reqwest::Request::try_from(request.map(reqwest::Body::wrap)) {
            Ok(request) => {
                let asked = request.url().clone();
                State::Pending { response: self.client.call(request), asked }
            }
            Err(error) => State::Refused { error: Some(error) },
        };
        ReqwestFuture { state }
    }
}

// ===== impl ReqwestFuture =====

impl Future for ReqwestFuture {
    type Output = Result<http::Response<reqwest::Body>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match self.project().state.project() {
            StateProjection::Pending { response, asked } => {
                ready!(response.poll(cx)).map(|response| converted(response, asked))
            }
            StateProjection::Refused { error } => {
                Err(error.take().expect("not polled after it has completed"))
            }
        };
        Poll::Ready(result.map_err(stripped))
    }
}

impl fmt::Debug for ReqwestFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestFuture").finish_non_exhaustive()
    }
}

/// The response, with a [`FinalUri`] if the client has followed a redirect to another origin.
fn converted(response: reqwest::Response, asked: &Url) -> http::Response<reqwest::Body> {
    let url = response.url();
    // Both come from the same parser, so that each place is written in one way only.
    let is_same = url.scheme() == asked.scheme()
        && url.host_str() == asked.host_str()
        && url.port_or_known_default() == asked.port_or_known_default();
    let final_uri = if is_same { None } else { url.as_str().parse().ok() };
    let mut response = http::Response::from(response);
    if let Some(uri) = final_uri {
        response.extensions_mut().insert(FinalUri(uri));
    }
    response
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
            || url.host().map(|host| host.to_owned()) == Host::parse(origin.host()).ok())
}

/// Takes out of an error what may be secret in its URL.
fn stripped(mut error: Error) -> Error {
    if let Some(url) = error.url_mut() {
        url.set_query(None);
        url.set_fragment(None);
        // Both fail only where there can be no user info in the first place.
        let _ = url.set_username("");
        let _ = url.set_password(None);
    }
    error
}

#[cfg(test)]
mod tests {
    use reqwest::ResponseBuilderExt;

    use super::*;

    fn response_from(url: &str) -> reqwest::Response {
        http::Response::builder().url(url.parse().unwrap()).body("").unwrap().into()
    }

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
            let request = http::Request::get(asked).body(reqwest::Body::default()).unwrap();
            let asked = reqwest::Request::try_from(request).unwrap().url().clone();
            converted(response_from(from), &asked).extensions().get::<FinalUri>().is_some()
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
        let has_moved = |asked: &str, from: &str| {
            let asked = Origin::of(&asked.parse().unwrap());
            final_uri(&response_from(from), asked.as_ref()).is_some()
        };
        for (asked, from) in SAME {
            assert!(!has_moved(asked, from), "{asked} {from}");
        }
        for (asked, from) in OTHER {
            assert!(has_moved(asked, from), "{asked} {from}");
        }
    }
}
