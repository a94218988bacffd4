//! A `reqwest::Client` as a tower service over the types of the `http` crate.
//!
//! The token endpoint and the innermost service of a client stack use the same adapter.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Body;
use pin_project_lite::pin_project;
use reqwest::{Client, Error, Url, redirect::Policy};
use tower_service::Service;

use crate::{
    error::BoxError,
    origin::{FinalUri, Origin},
};

/// A [`reqwest::Client`] as a [`Service`] from [`http::Request`] to [`http::Response`], like the
/// other services of a client stack.
///
/// ```no_run
/// use http::Request;
/// use tower::{ServiceBuilder, ServiceExt, timeout::TimeoutLayer};
/// use tower_bearer::oauth2::ReqwestService;
///
/// # async fn call() -> Result<(), tower_bearer::BoxError> {
/// let stack = ServiceBuilder::new()
///     .layer(TimeoutLayer::new(std::time::Duration::from_secs(30)))
///     .service(ReqwestService::default());
/// let request = Request::get("https://api.example.com/").body(reqwest::Body::default())?;
/// let response = stack.oneshot(request).await?;
/// # Ok(())
/// # }
/// ```
///
/// It is always ready, and cheap to clone. It takes any body whose data convert to [`Bytes`]. The
/// body is `Sync + 'static` because reqwest boxes it.
///
/// # Redirects
///
/// [`ReqwestService::default()`](Self::default) follows none. A client that you [pass](Self::new)
/// keeps its own settings for connections, proxies, TLS and redirects. A client that follows
/// redirects does so below every layer: turn that off
/// (`reqwest::Client::builder().redirect(reqwest::redirect::Policy::none())`), and add a redirect
/// layer on top. A response that still comes from another origin has the extension
/// [`FinalUri`](crate::FinalUri).
///
/// # Proxies
///
/// [`ReqwestService::default()`](Self::default) uses those of the environment, but not for
/// plaintext to loopback, where a proxy on another host would read the token. A client that you
/// [pass](Self::new) has its own settings: if it talks to `http://127.0.0.1`, build it with
/// `no_proxy()`, or set `NO_PROXY` in the environment.
///
/// # Errors
///
/// reqwest's own. Their URL keeps scheme, host, port and path, but not the user info, the query and
/// the fragment, which may hold secrets.
#[derive(Clone, Debug)]
pub struct ReqwestService {
    client: Client,
    /// A client without a proxy, for plaintext to loopback. `None` if `client` decides itself.
    direct: Option<Client>,
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
        /// Waits for the head of the response to a request to that URI.
        Pending {
            #[pin]
            response: <Client as Service<reqwest::Request>>::Future,
            asked: Url,
        },
        /// reqwest does not accept the request.
        Refused { error: Option<Error> },
    }
}

// ===== impl ReqwestService =====

impl ReqwestService {
    /// Wraps a client, with the client's own settings.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, direct: None }
    }

    /// Returns the client.
    #[must_use]
    pub fn get_ref(&self) -> &Client {
        &self.client
    }

    /// Unwraps the client.
    #[must_use]
    pub fn into_inner(self) -> Client {
        self.client
    }
}

impl Default for ReqwestService {
    /// Makes a client that follows no redirect and otherwise has reqwest's defaults: rustls with
    /// the system's certificates, and the proxies of the environment
    /// ([except to loopback](Self#proxies)).
    ///
    /// # Panics
    ///
    /// If TLS cannot be set up, as [`reqwest::Client::new`] does.
    #[expect(clippy::expect_used, reason = "documented: as `reqwest::Client::new`")]
    fn default() -> Self {
        let builder = || Client::builder().redirect(Policy::none());
        let [client, direct] = [builder(), builder().no_proxy()].map(|builder| {
            builder.build().expect("TLS can be set up, as `reqwest::Client::new` expects too")
        });
        Self { client, direct: Some(direct) }
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
        let origin = Origin::of(request.uri());
        let is_direct = origin.is_some_and(|origin| !origin.is_https() && origin.is_loopback());
        let client = self.direct.as_mut().filter(|_| is_direct).unwrap_or(&mut self.client);
        let state = match reqwest::Request::try_from(request.map(reqwest::Body::wrap)) {
            Ok(request) => {
                let asked = request.url().clone();
                State::Pending { response: client.call(request), asked }
            }
            Err(error) => State::Refused { error: Some(error) },
        };
        ReqwestFuture { state }
    }
}

// ===== impl ReqwestFuture =====

impl Future for ReqwestFuture {
    type Output = Result<http::Response<reqwest::Body>, Error>;

    #[expect(clippy::expect_used, reason = "a future is not polled after it has completed")]
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
    let final_uri = FinalUri::of(response.url(), asked);
    let mut response = http::Response::from(response);
    if let Some(uri) = final_uri {
        response.extensions_mut().insert(uri);
    }
    response
}

/// Removes the parts of an error's URL that may be secret.
fn stripped(mut error: Error) -> Error {
    if let Some(url) = error.url_mut() {
        url.set_query(None);
        url.set_fragment(None);
        // Both fail only for a URL that cannot have user info.
        let _ = url.set_username("");
        let _ = url.set_password(None);
    }
    error
}

#[cfg(test)]
mod tests {
    use reqwest::ResponseBuilderExt;

    use super::*;

    #[test]
    fn a_response_from_another_origin_says_so_and_one_from_the_same_does_not() {
        let asked: Url = "https://api.example.com/a".parse().unwrap();
        for (from, is_other) in [
            ("https://api.example.com/b", false),
            ("https://other.example.com/a", true),
            ("http://api.example.com/a", true),
        ] {
            let response = http::Response::builder().url(from.parse().unwrap()).body("").unwrap();
            let response = converted(response.into(), &asked);
            let expected = is_other.then(|| FinalUri(from.parse().unwrap()));
            assert_eq!(response.extensions().get(), expected.as_ref(), "{from}");
        }
    }
}
