//! The layer: which origins get which token, and what counts as a rejection.

use std::{fmt, sync::Arc};

use http::{HeaderValue, StatusCode, Uri, request, response};
use tower_layer::Layer;

use crate::{
    cache::TokenCache,
    error::Refused,
    observe,
    origin::{InvalidOrigin, Origin},
    service::{BearerAuth, BufferBody, CloneBody, NoReplay},
    source::TokenSource,
    target::Target,
};

/// Puts a valid bearer token on every request of a client stack.
///
/// A token goes only to the origins that are named here. A request that brings its own
/// `Authorization`, or the extension [`SkipAuth`](crate::SkipAuth), passes untouched.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response, header::AUTHORIZATION};
/// use http_body_util::Full;
/// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
/// use tower_bearer::{AccessToken, BearerAuthLayer, TokenError, from_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let source = from_fn(|_| async { AccessToken::new("abc").map_err(TokenError::permanent) });
/// let client = ServiceBuilder::new()
///     .layer(BearerAuthLayer::new(source).origin("https://api.example.com")?)
///     .service(service_fn(|request: Request<Full<Bytes>>| async move {
///         assert_eq!(request.headers()[AUTHORIZATION], "Bearer abc");
///         Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
///     }));
///
/// let request = Request::get("https://api.example.com/v1").body(Full::default())?;
/// assert_eq!(client.oneshot(request).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
///
/// # The body
///
/// To send a request again after a rejection, something has to be kept of it. By default that
/// is a clone, so the body has to be `Clone` (as `Full<Bytes>` and `String` are). For any other
/// body, [`buffer_body`](Self::buffer_body) keeps a copy while it streams, and
/// [`no_replay`](Self::no_replay) keeps nothing.
///
/// # Order
///
/// Whatever follows redirects or retries belongs above this layer, so that each request that
/// it makes is judged, and given its token, anew.
#[derive(Clone)]
pub struct BearerAuthLayer<R = CloneBody> {
    config: Arc<Config>,
    replay: R,
}

/// What happens to a request for an origin that was not named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnlistedOrigin {
    /// It fails with [`Refused`], and nothing is sent.
    #[default]
    Refuse,
    /// It is sent without a token.
    SendBare,
}

/// The status of gRPC for credentials that are missing or no good.
const UNAUTHENTICATED: &str = "16";

type Judge<P> = Arc<dyn Fn(&P) -> bool + Send + Sync>;

/// What the layer was told; one for all services and all requests.
#[derive(Clone)]
pub(crate) struct Config {
    cache: TokenCache,
    routes: Vec<(Origin, TokenCache)>,
    any_https: bool,
    allow_plaintext: bool,
    assumed: Option<Origin>,
    unlisted: UnlistedOrigin,
    replay_if: Option<Judge<request::Parts>>,
    rejected_when: Option<Judge<response::Parts>>,
    grpc: bool,
}

/// Where a request goes.
#[derive(Debug)]
pub(crate) enum Destination {
    Known(Target),
    Unlisted,
    Refused(Refused),
}

// ===== impl BearerAuthLayer =====

impl BearerAuthLayer {
    /// A layer with a cache of its own for that source. No origin gets its token yet.
    #[must_use]
    pub fn new(source: impl TokenSource) -> Self {
        Self::from_cache(TokenCache::new(source))
    }

    /// A layer on a cache that others may share.
    #[must_use]
    pub fn from_cache(cache: TokenCache) -> Self {
        let config = Config {
            cache,
            routes: Vec::new(),
            any_https: false,
            allow_plaintext: false,
            assumed: None,
            unlisted: UnlistedOrigin::default(),
            replay_if: None,
            rejected_when: None,
            grpc: false,
        };
        Self { config: Arc::new(config), replay: CloneBody::new() }
    }
}

impl<R> BearerAuthLayer<R> {
    /// Names an origin that gets the layer's token: `https://api.example.com`, perhaps with a
    /// port; a text or an [`Origin`]. It may be called for as many as there are.
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`] if the text is not a scheme, a host and perhaps a port, or if the
    /// origin has a token of another cache already.
    pub fn origin<O>(self, origin: O) -> Result<Self, InvalidOrigin>
    where
        O: TryInto<Origin, Error: Into<InvalidOrigin>>,
    {
        let origin = origin.try_into().map_err(Into::into)?;
        let cache = self.config.cache.clone();
        self.add(origin, cache)
    }

    /// Gives another origin another token, so that one client speaks to several APIs.
    ///
    /// # Errors
    ///
    /// As [`origin`](Self::origin).
    pub fn route(self, origin: impl AsRef<str>, cache: TokenCache) -> Result<Self, InvalidOrigin> {
        let origin: Origin = origin.as_ref().parse()?;
        self.add(origin, cache)
    }

    /// Every `https` origin that is not named gets the layer's token.
    ///
    /// Want this only where something else decides whom the client speaks to: whoever can make
    /// the program send a request to a server of theirs gets the token.
    #[must_use]
    pub fn any_https(self) -> Self {
        self.with(|config| config.any_https = true)
    }

    /// Lets a named `http` origin that is not this machine get its token too, for anybody on
    /// the way to read (RFC 6750 §5.3).
    #[must_use]
    pub fn allow_plaintext(self) -> Self {
        self.with(|config| config.allow_plaintext = true)
    }

    /// Says what a URI without scheme and authority means: some clients (tonic's `Channel`)
    /// add those further down. That origin has to be named as well.
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`] if the text is not a scheme, a host and perhaps a port.
    pub fn assume_origin<O>(self, origin: O) -> Result<Self, InvalidOrigin>
    where
        O: TryInto<Origin, Error: Into<InvalidOrigin>>,
    {
        let origin = origin.try_into().map_err(Into::into)?;
        Ok(self.with(|config| config.assumed = Some(origin)))
    }

    /// Says what happens to a request for an origin that was not named. Default: it is refused.
    #[must_use]
    pub fn unlisted_origins(self, unlisted: UnlistedOrigin) -> Self {
        self.with(|config| config.unlisted = unlisted)
    }

    /// Keeps a copy of a request's body, of any kind, while it streams, of at most `limit`
    /// bytes; no frame is delayed. `wrap` makes the body type of the inner service of it:
    /// `axum::body::Body::new`, `tonic::body::Body::new`, `reqwest::Body::wrap`, or
    /// [`std::convert::identity`] if that takes any body.
    #[must_use]
    pub fn buffer_body<F>(self, limit: usize, wrap: F) -> BearerAuthLayer<BufferBody<F>> {
        BearerAuthLayer { config: self.config, replay: BufferBody::new(limit, wrap) }
    }

    /// Keeps nothing: a rejection is returned at once, and renews the token in the background.
    #[must_use]
    pub fn no_replay(self) -> BearerAuthLayer<NoReplay> {
        BearerAuthLayer { config: self.config, replay: NoReplay::new() }
    }

    /// Says which requests may be sent again. Default: all, because a server that rejects the
    /// token has not done what was asked.
    #[must_use]
    pub fn replay_if(
        self,
        judge: impl Fn(&request::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.with(|config| config.replay_if = Some(Arc::new(judge)))
    }

    /// Says which responses are rejections of the token. Default: those with status 401
    /// (RFC 6750 §3.1).
    #[must_use]
    pub fn rejected_when(
        self,
        judge: impl Fn(&response::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.with(|config| config.rejected_when = Some(Arc::new(judge)))
    }

    /// A response with `grpc-status: 16` (`UNAUTHENTICATED`) in its headers is a rejection too.
    /// One that comes in trailers is not seen here, and by then the call has counted as
    /// accepted: tell [`TokenCache::reject`](crate::TokenCache::reject), which fetches once a
    /// second at most.
    #[must_use]
    pub fn grpc(self) -> Self {
        self.with(|config| config.grpc = true)
    }

    #[cfg(feature = "reqwest-middleware")]
    pub(crate) fn into_config(self) -> Arc<Config> {
        self.config
    }

    fn add(self, origin: Origin, cache: TokenCache) -> Result<Self, InvalidOrigin> {
        let known = self.config.routes.iter().find(|(known, _)| *known == origin);
        match known.map(|(_, known)| known.is_same(&cache)) {
            Some(true) => Ok(self),
            Some(false) => Err(InvalidOrigin::Taken(origin)),
            None => Ok(self.with(|config| config.routes.push((origin, cache)))),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }
}

impl<S, R: Clone> Layer<S> for BearerAuthLayer<R> {
    type Service = BearerAuth<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        BearerAuth::new(inner, Arc::clone(&self.config), self.replay.clone())
    }
}

impl<R: fmt::Debug> fmt::Debug for BearerAuthLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerAuthLayer")
            .field("config", &self.config)
            .field("replay", &self.replay)
            .finish()
    }
}

// ===== impl Config =====

impl Config {
    pub(crate) fn destination(&self, uri: &Uri) -> Destination {
        let Some(origin) = self.origin_of(uri) else {
            return self.not_named(Refused::NoOrigin);
        };
        let route = self.routes.iter().find(|(named, _)| *named == origin);
        let cache = match route {
            Some((_, cache)) => cache,
            None if self.any_https && origin.is_https() => &self.cache,
            None => return self.not_named(Refused::NotNamed(origin)),
        };
        if origin.is_https() || origin.is_loopback() || self.allow_plaintext {
            Destination::Known(Target { cache: cache.clone(), is_named: route.is_some(), origin })
        } else {
            refused(Refused::Plaintext(origin))
        }
    }

    pub(crate) fn may_replay(&self, parts: &request::Parts) -> bool {
        self.replay_if.as_ref().is_none_or(|judge| judge(parts))
    }

    /// Whether the response is a rejection of the token.
    pub(crate) fn rejects(&self, parts: &response::Parts) -> bool {
        let rejected = match &self.rejected_when {
            None => parts.status == StatusCode::UNAUTHORIZED,
            Some(judge) => judge(parts),
        };
        rejected || self.grpc_status(parts).is_some_and(|status| status == UNAUTHENTICATED)
    }

    /// Whether one that is no rejection is a proof of the token. A server's error, and a
    /// refusal for another reason, say nothing of it.
    pub(crate) fn accepts(&self, parts: &response::Parts) -> bool {
        let is_ok = parts.status.as_u16() < 400;
        is_ok && self.grpc_status(parts).is_none_or(|status| status == "0")
    }

    fn grpc_status<'a>(&self, parts: &'a response::Parts) -> Option<&'a HeaderValue> {
        parts.headers.get("grpc-status").filter(|_| self.grpc)
    }

    /// A URI that names no origin at all means the assumed one. One that has an authority but
    /// no scheme, or another scheme, means nothing.
    fn origin_of(&self, uri: &Uri) -> Option<Origin> {
        if uri.scheme().is_none() && uri.authority().is_none() {
            return self.assumed.clone();
        }
        Origin::of(uri)
    }

    fn not_named(&self, why: Refused) -> Destination {
        match self.unlisted {
            UnlistedOrigin::Refuse => refused(why),
            UnlistedOrigin::SendBare => Destination::Unlisted,
        }
    }
}

fn refused(refused: Refused) -> Destination {
    observe::refused(&refused);
    Destination::Refused(refused)
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origins: Vec<_> = self.routes.iter().map(|(origin, _)| origin).collect();
        f.debug_struct("Config")
            .field("origins", &origins)
            .field("any_https", &self.any_https)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("assumed", &self.assumed)
            .field("unlisted_origins", &self.unlisted)
            .field("grpc", &self.grpc)
            .finish_non_exhaustive()
    }
}
