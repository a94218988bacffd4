//! Drives an exchange over a `reqwest-middleware` chain.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Extensions, Uri, request, response};
use reqwest::{Request, Response, Url};
use reqwest_middleware::{Error, Middleware, Next as Chain, Result};
use url::Position;

use crate::{
    error::TokenError,
    exchange::{Exchange, Next},
    layer::BearerAuthLayer,
    origin::{FinalUri, final_uri},
    rules::{Admission, Destination, Keep, RequestHead, ResponseHead, Rules},
    service::{CloneBody, NoReplay},
};

/// Puts a valid bearer token on every request of a
/// [`ClientWithMiddleware`](reqwest_middleware::ClientWithMiddleware). It keeps the promises of the
/// layer that you make it from.
///
/// ```
/// use reqwest_middleware::ClientBuilder;
/// use tower_bearer::{AccessToken, BearerAuthLayer, BearerAuthMiddleware, TokenError, from_fn};
///
/// # fn client() -> Result<(), tower_bearer::BoxError> {
/// let source = from_fn(|_| async { AccessToken::new("abc").map_err(TokenError::permanent) });
/// let auth = BearerAuthLayer::new(source).origin("https://api.example.com")?;
/// let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
/// let client = ClientBuilder::new(http).with(BearerAuthMiddleware::from(auth)).build();
/// # drop(client);
/// # Ok(())
/// # }
/// # client().unwrap();
/// ```
///
/// A rejected request is sent again if reqwest can clone it ([`Request::try_clone`]), which it
/// cannot if the body streams. A request that brings its own `Authorization`, or the extension
/// [`SkipAuth`](crate::SkipAuth)
/// ([`with_extension`](reqwest_middleware::RequestBuilder::with_extension)), passes untouched.
///
/// # Redirects
///
/// reqwest follows redirects by itself, below every middleware, and removes the token for another
/// host. A 401 that then comes from another origin is no rejection of the token. Better turn
/// redirects off, as above, and decide in your own code whether to follow one.
///
/// # Proxies
///
/// A token may go to this machine without TLS (`http://127.0.0.1`), but reqwest uses the proxies of the
/// environment for that too, and a proxy on another machine would read it. Build the client for such
/// an API with `no_proxy()`, or set `NO_PROXY` in the environment.
///
/// # Retries
///
/// `reqwest-retry` belongs above: `.with(RetryTransientMiddleware…).with(auth)`. It retries what
/// failed on the way (connections, 5xx, 429), and each of its attempts gets the current token. It
/// leaves a 401 alone, and this middleware sends that request again once.
///
/// # Errors
///
/// [`Error::Middleware`]. [`TokenError::find_in`](crate::TokenError::find_in) finds the error if
/// there is no token, [`Refused::find_in`](crate::Refused::find_in) if the layer refused the
/// request, whatever middleware stands above. The text of the outer error says only which of the
/// two it is; print its causes too (`{:#}` of an `anyhow::Error` does).
#[derive(Clone, Debug)]
pub struct BearerAuthMiddleware {
    rules: Arc<Rules>,
    replays: bool,
}

impl From<BearerAuthLayer<CloneBody>> for BearerAuthMiddleware {
    fn from(layer: BearerAuthLayer<CloneBody>) -> Self {
        Self { rules: layer.into_rules(), replays: true }
    }
}

impl From<BearerAuthLayer<NoReplay>> for BearerAuthMiddleware {
    fn from(layer: BearerAuthLayer<NoReplay>) -> Self {
        Self { rules: layer.into_rules(), replays: false }
    }
}

#[async_trait]
impl Middleware for BearerAuthMiddleware {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        chain: Chain<'_>,
    ) -> Result<Response> {
        let Some(exchange) = self.admit(&request, extensions).await? else {
            return chain.run(request, extensions).await;
        };
        let kept = self.keep(&request, extensions);
        if !exchange.put(request.headers_mut()) {
            return chain.run(request, extensions).await;
        }
        let response = chain.clone().run(request, extensions).await?;
        let rejection = match answered(&exchange, &response, kept.is_some()) {
            Next::Answer => return Ok(response),
            Next::Renew(rejection) => rejection,
        };
        let renewed = exchange.pass().cache().renew(rejection).await;
        let (Some(replay), Some(mut request)) = (exchange.renewed(renewed), kept) else {
            return Ok(response);
        };
        // The response may hold a connection that the second call needs.
        drop(response);
        replay.put(request.headers_mut());
        replay.replaying();
        let response = chain.run(request, extensions).await.inspect_err(|_| replay.broken())?;
        // Whatever the second call returns is the answer.
        answered(&replay, &response, false);
        Ok(response)
    }
}

impl BearerAuthMiddleware {
    /// What the request carries, unless it passes untouched.
    async fn admit(&self, request: &Request, extensions: &Extensions) -> Result<Option<Exchange>> {
        let destination = destination(request.url());
        let head = RequestHead { destination, headers: request.headers(), extensions };
        let admission = match self.rules.ready(destination, extensions) {
            Some(pass) => Admission::Ready(pass),
            None => self.rules.admit(&head),
        };
        let pass = match admission {
            Admission::Untouched => return Ok(None),
            Admission::Ready(pass) => pass,
            Admission::Waiting(waiting) => waiting.pass().await.map_err(without_token)?,
            Admission::Refused(refused) => {
                return Err(unsent(refused, "the request was refused and was not sent"));
            }
            Admission::Failed(error) => return Err(without_token(error)),
        };
        Ok(Some(Exchange::new(pass)))
    }

    /// A copy of the request, without a token, if it may be sent again and reqwest can clone it.
    fn keep(&self, request: &Request, extensions: &Extensions) -> Option<Request> {
        if !self.replays {
            return None;
        }
        let parts = self.rules.replay_if.as_ref().map(|_| request_parts(request, extensions));
        match self.rules.keep(extensions, parts.as_ref()) {
            Keep::Nothing => None,
            Keep::UpTo(limit) => {
                let len = request.body().and_then(|body| body.as_bytes()).map_or(0, <[u8]>::len);
                if limit.is_some_and(|limit| limit < len) { None } else { request.try_clone() }
            }
        }
    }
}

fn without_token(error: TokenError) -> Error {
    unsent(error, "the request has no access token and was not sent")
}

/// Adds why the request was not sent, as a cause: the errors of reqwest-middleware and
/// reqwest-retry return the causes of the error that they wrap, not that error itself.
fn unsent(error: impl std::error::Error + Send + Sync + 'static, what: &'static str) -> Error {
    match Error::middleware(error) {
        Error::Middleware(error) => error.context(what).into(),
        other @ Error::Reqwest(_) => other,
    }
}

fn answered(exchange: &Exchange, response: &Response, can_replay: bool) -> Next {
    let came_from = Some(destination(response.url()));
    if exchange.judges_parts() {
        let parts = response_parts(exchange, response);
        let head = ResponseHead { came_from, ..ResponseHead::of_parts(&parts) };
        return exchange.answered(&head, || can_replay);
    }
    let head = ResponseHead {
        status: response.status(),
        headers: response.headers(),
        extensions: response.extensions(),
        came_from,
        parts: None,
    };
    exchange.answered(&head, || can_replay)
}

/// The authority, borrowed from the URL.
fn destination(url: &Url) -> Destination<'_> {
    Destination::of_parts(url.scheme(), &url[Position::BeforeHost..Position::AfterPort])
}

/// A copy for a user's rule, because reqwest has no `Parts` to lend.
fn request_parts(request: &Request, extensions: &Extensions) -> request::Parts {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = request.method().clone();
    parts.uri = request.url().as_str().parse::<Uri>().unwrap_or_default();
    parts.version = request.version();
    parts.headers = request.headers().clone();
    parts.extensions = extensions.clone();
    parts
}

/// As [`request_parts`].
fn response_parts(exchange: &Exchange, response: &Response) -> response::Parts {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = response.status();
    parts.version = response.version();
    parts.headers = response.headers().clone();
    parts.extensions = response.extensions().clone();
    if let Some(uri) = final_uri(response, Some(exchange.pass().origin())) {
        parts.extensions.insert(FinalUri(uri));
    }
    parts
}
