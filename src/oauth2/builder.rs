//! The settings of a token endpoint.

mod build;
mod checks;
mod grant;
mod placeholder;
#[cfg(feature = "reqwest")]
mod ready_made;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;
use zeroize::Zeroizing;

use self::grant::{CLIENT_CREDENTIALS, Chosen};
use super::{
    assertion::{ClientAssertion, Profile},
    client_auth::ClientAuth,
    endpoint::TokenEndpoint,
    refresh::Hook,
    request::BodyFormat,
    response::{Field, FieldNames},
    text::{HeaderText, Text},
    token_exchange::TokenExchange,
    transport::{ServiceTransport, Transport},
};
use crate::{error::BoxError, secret::Secret};

#[cfg(feature = "reqwest")]
use self::ready_made::ReadyMade;
pub use checks::InvalidEndpoint;

const USER_AGENT: &str = concat!("tower-bearer/", env!("CARGO_PKG_VERSION"));

/// Configures a [`TokenEndpoint`].
///
/// [`build`](Self::build) checks the settings. If you call a method twice, the last call wins,
/// unless the method says that it adds.
#[must_use]
pub struct TokenEndpointBuilder {
    name: Option<Arc<str>>,
    url: String,
    /// The issuer, if it replaces the URL.
    issuer: Option<String>,
    allow_plaintext: bool,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    client_auth: Option<ClientAuth>,
    client_assertion: Option<Box<ClientAssertion>>,
    profile: Profile,
    format: BodyFormat,
    grant: Chosen,
    hook: Option<Box<Hook>>,
    scope: Option<String>,
    audience: Option<String>,
    resources: Vec<String>,
    params: Vec<(String, Text)>,
    user_agent: String,
    headers: Vec<(String, Text)>,
    names: FieldNames,
    timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
    #[cfg(feature = "reqwest")]
    ready_made: ReadyMade,
    transport: Option<Box<dyn Transport>>,
}

// ===== impl TokenEndpoint =====

impl TokenEndpoint {
    /// Returns a builder for the endpoint at that URL: absolute, `https` unless the host is
    /// loopback, without user info and fragment.
    pub fn builder(url: impl Into<String>) -> TokenEndpointBuilder {
        TokenEndpointBuilder::new(url.into())
    }

    /// Returns a builder for the endpoint that the issuer's metadata name (RFC 8414, `OpenID`
    /// Connect Discovery). The issuer is absolute, `https` unless the host is loopback, without
    /// user info, query and fragment, and spelled as the service spells it.
    ///
    /// ```
    /// use tower_bearer::{Secret, oauth2::TokenEndpoint};
    ///
    /// # #[cfg(feature = "reqwest")]
    /// # fn endpoint() -> Result<TokenEndpoint, tower_bearer::BoxError> {
    /// let endpoint = TokenEndpoint::discover("https://accounts.example.com")
    ///     .client_id("my-app")
    ///     .client_secret(Secret::env("CLIENT_SECRET"))
    ///     .build()?;
    /// # Ok(endpoint)
    /// # }
    /// # #[cfg(feature = "reqwest")]
    /// # endpoint().unwrap();
    /// ```
    ///
    /// [`build`](TokenEndpointBuilder::build) sends nothing. The first fetch reads the metadata
    /// through the endpoint's own transport. It sends a `GET` without credentials for
    /// `/.well-known/oauth-authorization-server`, inserted before the issuer's path, and if that
    /// finds nothing, for `/.well-known/openid-configuration`, appended to it. The endpoint keeps
    /// the metadata for the `max-age` of their `Cache-Control`, from five minutes to a day; an hour
    /// without one. While a later reading fails, it uses the last metadata. If the endpoint seems
    /// to have moved (it cannot be reached, or answers 404, 405, 410 or with a redirect), the next
    /// fetch reads the metadata again, once they are five minutes old.
    ///
    /// - Their `issuer` must be this one, byte for byte (RFC 8414 §3.3).
    /// - Their `token_endpoint` must be `https`, on any host. It may be plain `http` on loopback if
    ///   the issuer is plain `http` too, or anywhere with
    ///   [`allow_plaintext`](TokenEndpointBuilder::allow_plaintext).
    /// - With a client certificate, the endpoint uses the one in `mtls_endpoint_aliases`, if there
    ///   is one (RFC 8705 §5).
    /// - `token_endpoint_auth_methods_supported` chooses the
    ///   [`client_auth`](TokenEndpointBuilder::client_auth), if you do not: Basic, else the body;
    ///   for a client without a secret, `none` first.
    /// - They have 1 MiB at most. The endpoint does not follow redirects.
    ///
    /// A reading may take as long as the [`timeout`](TokenEndpointBuilder::timeout), or 5 s if you
    /// set none. For an error about the metadata,
    /// [`is_about_metadata`](super::EndpointError::is_about_metadata) is true.
    pub fn discover(issuer: impl Into<String>) -> TokenEndpointBuilder {
        let builder = TokenEndpointBuilder::new(String::new());
        TokenEndpointBuilder { issuer: Some(issuer.into()), ..builder }
    }
}

// ===== impl TokenEndpointBuilder =====

impl TokenEndpointBuilder {
    fn new(url: String) -> Self {
        Self {
            name: None,
            url,
            issuer: None,
            allow_plaintext: false,
            client_id: None,
            client_secret: None,
            client_auth: None,
            client_assertion: None,
            profile: Profile::default(),
            format: BodyFormat::default(),
            grant: Chosen::Plain(CLIENT_CREDENTIALS.to_owned()),
            hook: None,
            scope: None,
            audience: None,
            resources: Vec::new(),
            params: Vec::new(),
            user_agent: USER_AGENT.to_owned(),
            headers: Vec::new(),
            names: FieldNames::default(),
            timeout: None,
            connect_timeout: None,
            #[cfg(feature = "reqwest")]
            ready_made: ReadyMade::default(),
            transport: None,
        }
    }

    /// Sets the name of the endpoint in events, metrics, errors and the status of a cache that
    /// has no [name](crate::TokenCache::named). It distinguishes two clients of one token
    /// service, and must not be empty.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Replaces the URL that the builder started with. After
    /// [`discover`](TokenEndpoint::discover), the endpoint then reads no metadata.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self.issuer = None;
        self
    }

    /// Permits an `http://` URL of another host, which sends the credentials in cleartext. For
    /// loopback hosts `http://` is always permitted.
    pub fn allow_plaintext(mut self) -> Self {
        self.allow_plaintext = true;
        self
    }

    /// Sets the client id. It must not be empty.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// Sets the client secret. Without one, Basic sends an empty secret, and a body has no
    /// `client_secret`.
    pub fn client_secret(mut self, client_secret: impl Into<Secret>) -> Self {
        self.client_secret = Some(client_secret.into());
        self
    }

    /// Sets where the client's id and secret go.
    ///
    /// The default is [`ClientAuth::Basic`] for a client with an id or a secret, whatever the
    /// grant. It is [`ClientAuth::None`] for a client with neither and a grant other than client
    /// credentials, and for a client with a certificate and no secret. With
    /// [`discover`](TokenEndpoint::discover), the metadata choose the default.
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.client_auth = Some(client_auth);
        self
    }

    /// Authenticates the client with an assertion in place of a secret (RFC 7523 §2.2). The body
    /// contains the client id too.
    ///
    /// ```
    /// use tower_bearer::{Secret, oauth2::{ClientAssertion, TokenEndpoint}};
    ///
    /// // The projected token of a Kubernetes service account.
    /// let path = "/var/run/secrets/tokens/auth.example.com";
    /// let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
    ///     .client_id("my-app")
    ///     .client_assertion(ClientAssertion::token(Secret::file(path)));
    /// # #[cfg(feature = "reqwest")]
    /// # endpoint.build()?;
    /// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
    /// ```
    pub fn client_assertion(mut self, assertion: ClientAssertion) -> Self {
        self.client_assertion = Some(Box::new(assertion));
        self
    }

    /// Sets the assertion defaults of a known service.
    pub(super) fn assertion_profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Signs the grant with the key of a service account, given as the text of its file.
    #[cfg(feature = "jwt")]
    pub(super) fn service_account(mut self, file: Secret) -> Self {
        self.grant = Chosen::ServiceAccount(file);
        self
    }

    /// Sets the format of the body. The default is [`BodyFormat::Form`]. It does not move the
    /// credentials: for a service that wants them in a JSON body, set [`ClientAuth::Body`] too.
    pub fn body_format(mut self, format: BodyFormat) -> Self {
        self.format = format;
        self
    }

    /// Exchanges a refresh token (RFC 6749 §6): first this one, then the latest from an answer.
    ///
    /// The endpoint never sends a replaced refresh token again. If the service no longer accepts
    /// the latest one and this [`Secret`] has a new value, the endpoint sends that value: a new
    /// login needs no restart.
    ///
    /// Each exchange may take 10 s, unless you set a [`timeout`](Self::timeout).
    pub fn refresh_token(mut self, refresh_token: impl Into<Secret>) -> Self {
        self.grant = Chosen::RefreshToken(refresh_token.into());
        self
    }

    /// Sets a hook: an async function that gets each new refresh token, and can store it for the
    /// next start of the program.
    ///
    /// The hook runs on its own task. Neither requests nor refreshes wait for it: the next
    /// exchange sends the new refresh token, stored or not. The hook gets the tokens in order, the
    /// next one when it has finished with the last. It continues even if the fetch or the endpoint
    /// is dropped, because by then the old refresh token may be worthless. If it takes longer than
    /// 10 s, the endpoint logs a warning. If its runtime ends first, the endpoint calls it again
    /// with the same token on the next runtime. A program that exits after a fetch should wait for
    /// [`refresh_tokens_stored`](TokenEndpoint::refresh_tokens_stored).
    ///
    /// The hook must report its own failures. The endpoint stores it and calls it from any thread,
    /// hence the bounds.
    pub fn on_new_refresh_token<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Zeroizing<String>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.hook = Some(Box::new(move |token| Box::pin(hook(token))));
        self
    }

    /// Exchanges one token for another (RFC 8693): that of the request's [`Subject`], or a fixed
    /// one.
    ///
    /// The endpoint drops a refresh token in the answer, and exchanges the subject's token again
    /// next time.
    ///
    /// [`Subject`]: crate::Subject
    ///
    /// ```
    /// # use http::{Request, Response};
    /// # use std::convert::Infallible;
    /// # #[cfg(feature = "keyed")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tower_bearer::BoxError> {
    /// use tower_bearer::{
    ///     AccessToken, Reason, Subject, TokenKey, TokenRequest, TokenSource,
    ///     oauth2::{TokenEndpoint, TokenExchange},
    /// };
    ///
    /// # let service = tower::service_fn(async |_: Request<http_body_util::Full<bytes::Bytes>>| {
    /// #     let answer = r#"{"access_token":"for-alice","token_type":"Bearer","expires_in":60,
    /// #         "issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}"#;
    /// #     Ok::<_, Infallible>(Response::new(answer.to_owned()))
    /// # });
    /// let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
    ///     .client_id("orders")
    ///     .client_secret("s3cr3t")
    ///     .token_exchange(TokenExchange::new())
    /// #   .transport(service)
    ///     .build()?;
    ///
    /// // A `KeyedTokenCache` makes such a request for each key.
    /// let alice = Subject::new(AccessToken::new("what-alice-sent")?);
    /// let key = TokenKey::new().audience("billing").on_behalf_of(alice);
    /// let token = endpoint.fetch(TokenRequest::new(Reason::First).with_key(key)).await?;
    /// assert_eq!(token.secret(), "for-alice");
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "keyed"))]
    /// # fn main() {}
    /// ```
    pub fn token_exchange(mut self, exchange: TokenExchange) -> Self {
        self.grant = Chosen::TokenExchange(exchange);
        self
    }

    /// Redeems an assertion that a third party has signed (RFC 7523 §2.1): `assertion`, with the
    /// grant `urn:ietf:params:oauth:grant-type:jwt-bearer`. Each fetch reads it again.
    pub fn jwt_bearer(mut self, assertion: impl Into<Secret>) -> Self {
        self.grant = Chosen::JwtBearer(assertion.into());
        self
    }

    /// Redeems the token of the request's [`Subject`](crate::Subject) as an assertion
    /// (RFC 7523 §2.1), for a token that acts on the subject's behalf. For Microsoft Entra use
    /// [`entra_on_behalf_of`](super::providers::entra_on_behalf_of).
    ///
    /// The endpoint drops a refresh token in the answer, and redeems the subject's token again next
    /// time.
    #[cfg(feature = "keyed")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
    pub fn jwt_bearer_on_behalf_of(mut self) -> Self {
        self.grant = Chosen::JwtBearerOnBehalfOf;
        self
    }

    /// Sets a grant other than client credentials by its `grant_type`, for instance
    /// `urn:ietf:params:oauth:grant-type:saml2-bearer`. Add its parameters with
    /// [`param`](Self::param) and [`secret_param`](Self::secret_param).
    ///
    /// The endpoint makes the same request for every token. It drops a refresh token in the
    /// answer, even for a grant that may return one, such as `password` (RFC 6749 §4.3.3). To send
    /// the user's password only once, or not to store it at all, log in by other means and give the
    /// resulting refresh token to [`refresh_token`](Self::refresh_token).
    ///
    /// ```
    /// use tower_bearer::{Secret, oauth2::TokenEndpoint};
    ///
    /// let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
    ///     .client_id("my-app")
    ///     .client_secret(Secret::env("CLIENT_SECRET"))
    ///     .grant_type("password")
    ///     .param("username", "orders")
    ///     .secret_param("password", Secret::env("PASSWORD"));
    /// # #[cfg(feature = "reqwest")]
    /// endpoint.build()?;
    /// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
    /// ```
    pub fn grant_type(mut self, grant_type: impl Into<String>) -> Self {
        self.grant = Chosen::Plain(grant_type.into());
        self
    }

    /// Sets the scope to request: names separated by spaces (RFC 6749 §3.3).
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Sets the audience of the token.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Adds a resource that the token is for: an absolute URI without fragment (RFC 8707 §2).
    /// Call it again to add more.
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resources.push(resource.into());
        self
    }

    /// Adds a parameter. Errors may show it: use [`secret_param`](Self::secret_param) for a secret.
    /// Each name may occur once. A parameter that has its own method is an error. Call it again to
    /// add more.
    pub fn param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.params.push((name.into(), Text::Plain(value.into())));
        self
    }

    /// Adds a parameter whose value is a secret. Each fetch reads it again, and no error shows it.
    /// The name follows the same rules as that of a [`param`](Self::param).
    pub fn secret_param(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.params.push((name.into(), Text::Secret(value.into())));
        self
    }

    /// Adds a header: a text, which errors may show, or a [`Secret`], which each fetch reads again
    /// and no error shows. Both are marked as sensitive. `Authorization`, `Host`,
    /// `Transfer-Encoding` and names that begin with `Content-` are errors. Call it again to add
    /// more.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<HeaderText>) -> Self {
        self.headers.push((name.into(), value.into().text));
        self
    }

    /// Sets the `User-Agent`. The default is `tower-bearer/` and the version.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// Sets the name of a member of the answer, in place of the [usual names](Field). Call it again
    /// for other members.
    pub fn field(mut self, field: Field, name: impl Into<String>) -> Self {
        self.names.set(field, name.into());
        self
    }

    /// Sets how long one exchange may take, from connecting to the last byte of the answer: more
    /// than zero.
    ///
    /// By default the endpoint sets no limit (except [for refresh tokens](Self::refresh_token)),
    /// and [the policy's](crate::RefreshPolicyBuilder::attempt_timeout) applies. The cache takes a
    /// limit that you set here into account.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how long connecting may take. This is a setting of the ready-made transport; a
    /// transport that you [set](Self::transport) has its own.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// Trusts certificate authorities in addition to those of the system: the contents of a PEM
    /// file with one certificate or more. Call it again to add more.
    ///
    /// This is a setting of the ready-made transport. [`build`](Self::build) parses it once.
    ///
    /// ```no_run
    /// use tower_bearer::{Secret, oauth2::TokenEndpoint};
    ///
    /// # fn endpoint() -> Result<TokenEndpoint, tower_bearer::BoxError> {
    /// let endpoint = TokenEndpoint::builder("https://auth.internal/token")
    ///     .client_id("my-app")
    ///     .client_secret(Secret::env("CLIENT_SECRET"))
    ///     .root_certificate(std::fs::read("/etc/ssl/internal-ca.pem")?)
    ///     .build()?;
    /// # Ok(endpoint)
    /// # }
    /// ```
    #[cfg(feature = "reqwest")]
    #[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
    pub fn root_certificate(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.ready_made.root_certificates.push(pem.as_ref().to_owned());
        self
    }

    /// Presents a client certificate (mutual TLS): a PEM chain with the client's own certificate
    /// first, and its PEM key. The key is PKCS #8, PKCS #1 or SEC 1, and not encrypted. One file
    /// may hold both.
    ///
    /// Without a [`client_secret`](Self::client_secret), the certificate authenticates the client
    /// (`tls_client_auth`, `self_signed_tls_client_auth`, RFC 8705 §2), and only the
    /// [`client_id`](Self::client_id) is sent. With a secret, the client uses both.
    ///
    /// Each fetch reads both again. If one has changed, the fetch connects with the new
    /// certificate, and the transport closes the old connections once no exchange uses them. If the
    /// certificate or the key cannot be used (a half-written file, a key of another certificate, an
    /// expired certificate), the fetch fails with
    /// [`ClientCertificate`](super::EndpointErrorKind::ClientCertificate) and sends nothing; a
    /// token that is still valid remains in use.
    ///
    /// A server that rejects the certificate often closes the connection after the handshake,
    /// without an answer. This counts as a transient failure: the endpoint retries with the
    /// certificate that it reads then. The error contains the server's TLS alert.
    ///
    /// This crate wipes its copies of the key. rustls and reqwest keep the key for as long as they
    /// connect with it, and do not promise to wipe their copies.
    ///
    /// This is a setting of the ready-made transport, and for `https` only.
    ///
    /// ```
    /// use tower_bearer::{Secret, oauth2::TokenEndpoint};
    ///
    /// # fn endpoint() -> Result<TokenEndpoint, tower_bearer::BoxError> {
    /// let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
    ///     .client_id("my-app")
    ///     .client_certificate(
    ///         Secret::file("/run/tls/client.pem"),
    ///         Secret::file("/run/tls/client.key"),
    ///     )
    ///     .build()?;
    /// # Ok(endpoint)
    /// # }
    /// # endpoint().unwrap();
    /// ```
    #[cfg(feature = "reqwest")]
    #[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
    pub fn client_certificate(
        mut self,
        certificate: impl Into<Secret>,
        key: impl Into<Secret>,
    ) -> Self {
        self.ready_made.certificate = Some((certificate.into(), key.into()));
        self
    }

    /// Connects through a proxy, and ignores those of the environment:
    /// `http://proxy.example.com:3128`, or `https`. User and password go into the URL; no error
    /// shows it.
    ///
    /// This is a setting of the ready-made transport. The proxy tunnels TLS (`CONNECT`, RFC 9110
    /// §9.3.6), so it does not see the credentials. With an `http` URL of the endpoint it would:
    /// that needs [`allow_plaintext`](Self::allow_plaintext).
    #[cfg(feature = "reqwest")]
    #[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.ready_made.proxy = Some(Zeroizing::new(url.into()));
        self
    }

    /// Sets the service that sends the endpoint's requests, and those for its
    /// [metadata](TokenEndpoint::discover): any tower client stack that does not follow redirects.
    ///
    /// The default, with feature `reqwest`, is a client that follows no redirect, uses rustls for
    /// TLS, and uses the proxies of the environment for requests that are neither plaintext nor to
    /// loopback. `root_certificate`, `client_certificate` and `proxy` configure that client: a
    /// transport that you set has its own settings.
    ///
    /// Each exchange clones `S` and polls the clone ready. Exchanges run on tasks, hence
    /// `Send + Sync + 'static`.
    pub fn transport<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        self.transport = Some(Box::new(ServiceTransport(service)));
        self
    }
}

impl fmt::Debug for TokenEndpointBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL, which may contain a password, and without possible secrets.
        f.debug_struct("TokenEndpointBuilder")
            .field("grant_type", &self.grant.grant_type())
            .field("client_id", &self.client_id)
            .field("client_auth", &self.client_auth)
            .field("client_assertion", &self.client_assertion)
            .field("body_format", &self.format)
            .finish_non_exhaustive()
    }
}
