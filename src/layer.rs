//! The layer: builds the rules.

use std::{fmt, sync::Arc};

use http::{request, response};
use tower_layer::Layer;

use crate::{
    cache::TokenCache,
    origin::{InvalidOrigin, Origin},
    rules::{InvalidTokenHeader, Rules, TokenHeader, Tokens, UnlistedOrigin},
    service::{BearerAuth, BufferBody, CloneBody, InnerService, NoReplay},
    source::TokenSource,
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
/// To send a request again after a rejection, the layer must keep it. By default it keeps a clone,
/// so the body must be `Clone` (as `Full<Bytes>` and `String` are). For any other body,
/// [`buffer_body`](Self::buffer_body) keeps a copy while it streams, and
/// [`no_replay`](Self::no_replay) keeps nothing.
///
/// # Order
///
/// Layers that follow redirects or retry belong above this layer, so that this layer judges each of
/// their requests and gives it the current token.
#[derive(Clone)]
pub struct BearerAuthLayer<R = CloneBody> {
    rules: Arc<Rules>,
    replay: R,
}

// ===== impl BearerAuthLayer =====

impl BearerAuthLayer {
    /// A layer with its own cache for this source. No origin gets the token yet.
    #[must_use]
    pub fn new(source: impl TokenSource) -> Self {
        Self::from_cache(TokenCache::new(source))
    }

    /// A layer over a cache, which other layers may share.
    #[must_use]
    pub fn from_cache(tokens: impl Into<Tokens>) -> Self {
        Self { rules: Arc::new(Rules::new(tokens.into())), replay: CloneBody::new() }
    }
}

impl<R> BearerAuthLayer<R> {
    /// Names an origin that gets the layer's token: `https://api.example.com`, with an
    /// optional port; a string or an [`Origin`]. Call it once for each origin.
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`] if the text is not a scheme, a host and perhaps a port, if the host has
    /// a `*` in it, or if the origin has a token of another cache already.
    pub fn origin<O>(self, origin: O) -> Result<Self, InvalidOrigin>
    where
        O: TryInto<Origin, Error: Into<InvalidOrigin>>,
    {
        self.add(origin.try_into().map_err(Into::into)?, None)
    }

    /// Gives an origin a token of its own, from another cache, so that one client can call several
    /// APIs. A source that you pass gets its own cache.
    ///
    /// ```
    /// use tower_bearer::{AccessToken, BearerAuthLayer, InvalidOrigin, TokenError, from_fn};
    ///
    /// # fn main() -> Result<(), InvalidOrigin> {
    /// let orders = from_fn(|_| async { AccessToken::new("abc").map_err(TokenError::permanent) });
    /// let billing = from_fn(|_| async { AccessToken::new("def").map_err(TokenError::permanent) });
    /// let layer = BearerAuthLayer::new(orders)
    ///     .origin("https://orders.example.com")?
    ///     .route("https://billing.example.com", billing)?;
    /// # drop(layer);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`origin`](Self::origin).
    pub fn route<O>(self, origin: O, tokens: impl Into<Tokens>) -> Result<Self, InvalidOrigin>
    where
        O: TryInto<Origin, Error: Into<InvalidOrigin>>,
    {
        self.add(origin.try_into().map_err(Into::into)?, Some(tokens.into()))
    }

    /// Gives the layer's token to every `https` origin that you did not name.
    /// Use this only if something else restricts where the client can connect: an attacker who can
    /// make the program send a request to their server gets the token.
    #[must_use]
    pub fn any_https(self) -> Self {
        self.with(Rules::any_https)
    }

    /// Lets named `http` origins on other machines get their token too. Everyone on the network
    /// path can then read it (RFC 6750 §5.3). [`check`](Self::check) finds such origins.
    #[must_use]
    pub fn allow_plaintext(self) -> Self {
        self.with(|rules| rules.allow_plaintext = true)
    }

    /// Sets the origin of URIs without scheme and authority: some clients (tonic's `Channel`) add
    /// these further down. You must name that origin as well.
    ///
    /// # The layer cannot see whether the client encrypts
    ///
    /// The layer believes that the client speaks TLS to an assumed `https` origin. If the client
    /// does not, it sends the token **in clear text**, without an error. For tonic, check
    /// that
    ///
    /// - `tls_config` is set: `.tls_config(ClientTlsConfig::new().with_native_roots())?`. Without
    ///   any of its `tls-…` features tonic speaks plaintext HTTP/2 to `https` URIs. The method
    ///   exists only with such a feature, so this line keeps a program without TLS from compiling.
    /// - the channel's own URI is this same origin, `https` included. tonic connects by that URI:
    ///   with `http` it speaks plaintext, whatever you gave `Endpoint::origin` and this method.
    ///
    /// For any other client, and for a connector of your own, check that it refuses to connect
    /// without TLS.
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`] if the text is not a scheme, a host and perhaps a port.
    pub fn assume_origin<O>(self, origin: O) -> Result<Self, InvalidOrigin>
    where
        O: TryInto<Origin, Error: Into<InvalidOrigin>>,
    {
        let origin = origin.try_into().map_err(Into::into)?;
        Ok(self.with(|rules| rules.assume(origin)))
    }

    /// Refuses every request whose [`TokenKey`](crate::TokenKey) has no
    /// [`Subject`](crate::Subject): nothing is sent, and the request never gets the program's own
    /// token instead ([`Refused::NoSubject`](crate::Refused::NoSubject)).
    ///
    /// The layer needs a [`KeyedTokenCache`](crate::KeyedTokenCache). A request that brings
    /// credentials of its own, or [`SkipAuth`](crate::SkipAuth), still passes untouched.
    #[cfg(feature = "keyed")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
    #[must_use]
    pub fn require_subject(self) -> Self {
        self.with(Rules::require_subject)
    }

    /// Finds mistakes that no single call can see. Make it the last call of the builder; the order
    /// of the calls before it does not matter. It finds
    ///
    /// - a layer without any origin,
    /// - an `http` origin of another machine without [`allow_plaintext`](Self::allow_plaintext),
    /// - an assumed origin that was not named,
    /// - an origin with one token for all, where the layer requires a subject.
    ///
    /// Without this call the layer refuses each request for such an origin
    /// ([`Refused`](crate::Refused)).
    ///
    /// ```
    /// use tower_bearer::{AccessToken, BearerAuthLayer, InvalidOrigin, TokenError, from_fn};
    ///
    /// # fn main() -> Result<(), InvalidOrigin> {
    /// let source = from_fn(|_| async { AccessToken::new("abc").map_err(TokenError::permanent) });
    /// let layer = BearerAuthLayer::new(source).origin("http://api.example.com")?;
    ///
    /// let error = layer.clone().check().unwrap_err();
    /// assert!(matches!(error, InvalidOrigin::Plaintext(_)));
    /// let layer = layer.allow_plaintext().check()?;
    /// # drop(layer);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`] says what is wrong, with which origin, and what to do.
    pub fn check(self) -> Result<Self, InvalidOrigin> {
        self.rules.check()?;
        Ok(self)
    }

    /// Sets what happens to a request for an origin that was not named. Default: the layer refuses
    /// it.
    #[must_use]
    pub fn unlisted_origins(self, unlisted: UnlistedOrigin) -> Self {
        self.with(|rules| rules.unlisted = unlisted)
    }

    /// Sends the token in another header: `.header("X-Api-Key")?` sends `X-Api-Key: <token>`, and
    /// [`TokenHeader`] sets another scheme. Default: `Authorization: Bearer <token>`.
    ///
    /// The rules for `Authorization` hold for this header: it goes only to the layer's origins, its
    /// value is marked as sensitive, and a request that already has this header passes untouched.
    /// The layer then leaves an `Authorization` that the request brings as it is, and takes no
    /// notice of it.
    ///
    /// With `Proxy-Authorization` a rejection is a 407, and its challenges are those of
    /// `Proxy-Authenticate`.
    ///
    /// # Redirects
    ///
    /// HTTP clients that follow redirects remove `Authorization` before they go to another host.
    /// They do not remove headers that they do not know. Turn redirects off in the client below
    /// (reqwest: `redirect(Policy::none())`), and follow them above this layer.
    ///
    /// # Errors
    ///
    /// [`InvalidTokenHeader`] if the text is not a header name, or names a header that HTTP itself
    /// uses, like `Host`.
    pub fn header<H>(self, header: H) -> Result<Self, InvalidTokenHeader>
    where
        H: TryInto<TokenHeader, Error: Into<InvalidTokenHeader>>,
    {
        let header = header.try_into().map_err(Into::into)?;
        Ok(self.with(|rules| rules.verdicts().header = header))
    }

    /// Keeps a copy of a request's body, of any type, while it streams, up to `limit` bytes. It
    /// delays no frame. `wrap` turns the result into the body type of the inner service:
    /// `axum::body::Body::new`, `tonic::body::Body::new`, `reqwest::Body::wrap`, or
    /// [`std::convert::identity`] for hyper-util's client and any other service that is generic over
    /// the body.
    ///
    /// ```
    /// use http::{Request, Response};
    /// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
    /// use tower_bearer::{AccessToken, BearerAuthLayer, ReplayBody, TokenError, from_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// let source = from_fn(|_| async { AccessToken::new("abc").map_err(TokenError::permanent) });
    /// let layer = BearerAuthLayer::new(source)
    ///     .origin("https://api.example.com")?
    ///     .buffer_body(64 * 1024, std::convert::identity);
    /// let client = ServiceBuilder::new()
    ///     .layer(layer)
    ///     .service(service_fn(async |_: Request<ReplayBody<String>>| {
    ///         Ok::<_, BoxError>(Response::new(()))
    ///     }));
    ///
    /// let request = Request::post("https://api.example.com/v1").body("a report".to_owned())?;
    /// assert_eq!(client.oneshot(request).await?.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn buffer_body<F>(self, limit: usize, wrap: F) -> BearerAuthLayer<BufferBody<F>> {
        BearerAuthLayer { rules: self.rules, replay: BufferBody::new(limit, wrap) }
    }

    /// Keeps nothing: the layer returns a rejection at once, and renews the token in the
    /// background.
    #[must_use]
    pub fn no_replay(self) -> BearerAuthLayer<NoReplay> {
        BearerAuthLayer { rules: self.rules, replay: NoReplay::new() }
    }

    /// Says which requests may be sent again. Default: all, because a server that rejects the token
    /// has not done what the request asked for (RFC 9110 §15.5.2).
    ///
    /// ```
    /// # use tower_bearer::{AccessToken, BearerAuthLayer, TokenError, from_fn};
    /// # let source = from_fn(|_| async { AccessToken::new("abc").map_err(TokenError::permanent) });
    /// # let layer = BearerAuthLayer::new(source);
    /// // For an API that may act before it checks the token.
    /// let layer = layer.replay_if(|request| request.method.is_safe());
    /// # drop(layer);
    /// ```
    #[must_use]
    pub fn replay_if(
        self,
        judge: impl Fn(&request::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.with(|rules| rules.replay_if = Some(Arc::new(judge)))
    }

    /// Says which responses reject the token. Default: those with status 401 (RFC 6750 §3.1), or
    /// 407 where [`header`](Self::header) says `Proxy-Authorization`. Your rule replaces the
    /// default, so include 401 if you want to keep it: `.rejected_when(|response|
    /// matches!(response.status.as_u16(), 401 | 403))`.
    #[must_use]
    pub fn rejected_when(
        self,
        judge: impl Fn(&response::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.with(|rules| rules.verdicts().rejected_when = Some(Arc::new(judge)))
    }

    /// Counts a response with `grpc-status: 16` (`UNAUTHENTICATED`) in its headers as a rejection
    /// too. The layer does not see a status in trailers: by then the call has counted as accepted.
    /// Report it to [`TokenCache::reject`](crate::TokenCache::reject), which fetches at most once a
    /// second.
    #[must_use]
    pub fn grpc(self) -> Self {
        self.with(|rules| rules.verdicts().grpc = true)
    }

    #[cfg(feature = "reqwest-middleware")]
    pub(crate) fn into_rules(self) -> Arc<Rules> {
        self.rules
    }

    fn add(mut self, origin: Origin, tokens: Option<Tokens>) -> Result<Self, InvalidOrigin> {
        self.changing().add(origin, tokens)?;
        Ok(self)
    }

    fn with(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(self.changing());
        self
    }

    fn changing(&mut self) -> &mut Rules {
        let rules = Arc::make_mut(&mut self.rules);
        rules.changing();
        rules
    }
}

impl<S: InnerService, R: Clone> Layer<S> for BearerAuthLayer<R> {
    type Service = BearerAuth<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        BearerAuth::new(inner, Arc::clone(&self.rules), self.replay.clone())
    }
}

impl<R: fmt::Debug> fmt::Debug for BearerAuthLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerAuthLayer")
            .field("rules", &self.rules)
            .field("replay", &self.replay)
            .finish()
    }
}
