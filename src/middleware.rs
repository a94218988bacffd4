//! The same decisions in a `reqwest-middleware` chain.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Extensions, Uri, header::AUTHORIZATION, request, response};
use reqwest::{Request, Response};
use reqwest_middleware::{Error, Middleware, Next, Result};

use crate::{
    cache::Rejection,
    layer::{BearerAuthLayer, Config, Destination},
    oauth2::final_uri,
    observe::{self, Replay},
    origin::{FinalUri, Origin},
    service::{CloneBody, NoReplay, SkipAuth},
    target::Target,
    token::AccessToken,
};

/// Puts a valid bearer token on every request of a
/// [`ClientWithMiddleware`](reqwest_middleware::ClientWithMiddleware): the same promises as
/// those of the layer that it is made from.
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
/// A rejected request is sent again if reqwest can clone it
/// ([`Request::try_clone`]): a streaming body cannot be. A request that brings its own
/// `Authorization`, or the extension [`SkipAuth`]
/// ([`with_extension`](reqwest_middleware::RequestBuilder::with_extension)), passes untouched.
///
/// # Redirects
///
/// reqwest follows them by itself, below every middleware, and takes the token off for another
/// host. A 401 that then comes from another origin is no rejection of the token. Better turn
/// that off, as above: whether a redirect is followed is then yours to say.
///
/// # Retries
///
/// `reqwest-retry` belongs above: `.with(RetryTransientMiddleware…).with(auth)`. It tries
/// again what failed on the way (connections, 5xx, 429), and each of its attempts gets the
/// token of its moment; a 401 it leaves alone, and this middleware sends that again once.
///
/// # Errors
///
/// [`Error::Middleware`], whose cause is a [`TokenError`](crate::TokenError) if no token could
/// be had and a [`Refused`](crate::Refused) if none may go there: `downcast_ref` tells.
#[derive(Clone, Debug)]
pub struct BearerAuthMiddleware {
    config: Arc<Config>,
    replays: bool,
}

impl From<BearerAuthLayer<CloneBody>> for BearerAuthMiddleware {
    fn from(layer: BearerAuthLayer<CloneBody>) -> Self {
        Self { config: layer.into_config(), replays: true }
    }
}

impl From<BearerAuthLayer<NoReplay>> for BearerAuthMiddleware {
    fn from(layer: BearerAuthLayer<NoReplay>) -> Self {
        Self { config: layer.into_config(), replays: false }
    }
}

#[async_trait]
impl Middleware for BearerAuthMiddleware {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let Some(target) = self.target(&request, extensions)? else {
            return next.run(request, extensions).await;
        };
        let token = target.cache.get().await.map_err(Error::middleware)?;
        let kept = if self.may_replay(&request) { request.try_clone() } else { None };
        put(&mut request, &token);
        let response = next.clone().run(request, extensions).await?;
        let Some(rejection) = self.verdict(&target, &token, &response) else {
            return Ok(response);
        };
        let Some(mut request) = kept else {
            target.cache.reject(rejection);
            return Ok(response);
        };
        let token = match target.cache.renew(rejection).await {
            Ok(token) => token,
            Err(error) => {
                observe::renewal_failed(&error);
                return Ok(response);
            }
        };
        drop(response);
        observe::replaying(&target);
        put(&mut request, &token);
        let replayed = |outcome| observe::replayed(&target, outcome);
        let response = next.run(request, extensions).await;
        let response = response.inspect_err(|_| replayed(Replay::Failed))?;
        match self.verdict(&target, &token, &response) {
            None => replayed(Replay::Answered),
            Some(rejection) => {
                replayed(Replay::Rejected);
                target.cache.reject(rejection);
            }
        }
        Ok(response)
    }
}

impl BearerAuthMiddleware {
    /// Where the request goes, unless it passes untouched.
    fn target(&self, request: &Request, extensions: &Extensions) -> Result<Option<Target>> {
        let passes =
            request.headers().contains_key(AUTHORIZATION) || extensions.get::<SkipAuth>().is_some();
        if passes {
            return Ok(None);
        }
        match self.config.destination(&uri(request)) {
            Destination::Known(target) => Ok(Some(target)),
            Destination::Unlisted => Ok(None),
            Destination::Refused(refused) => Err(Error::middleware(refused)),
        }
    }

    fn may_replay(&self, request: &Request) -> bool {
        self.replays && self.config.may_replay(&request_parts(request))
    }

    fn verdict(
        &self,
        target: &Target,
        token: &AccessToken,
        response: &Response,
    ) -> Option<Rejection> {
        target.verdict(&self.config, token, &response_parts(response, &target.origin))
    }
}

fn put(request: &mut Request, token: &AccessToken) {
    request.headers_mut().insert(AUTHORIZATION, token.header_value().clone());
}

/// Every URL that reqwest sends to is a URI; one that is not names no origin.
fn uri(request: &Request) -> Uri {
    request.url().as_str().parse().unwrap_or_default()
}

fn request_parts(request: &Request) -> request::Parts {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = request.method().clone();
    parts.uri = uri(request);
    parts.version = request.version();
    parts.headers = request.headers().clone();
    parts
}

fn response_parts(response: &Response, asked: &Origin) -> response::Parts {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = response.status();
    parts.version = response.version();
    parts.headers = response.headers().clone();
    parts.extensions = response.extensions().clone();
    if let Some(uri) = final_uri(response, Some(asked)) {
        parts.extensions.insert(FinalUri(uri));
    }
    parts
}
