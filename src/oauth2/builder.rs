//! What is configured about a token endpoint.

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
/// [`build`](Self::build) checks the settings. Of a setting that is made twice the last one
/// counts, unless its method can be repeated.
#[must_use]
pub struct TokenEndpointBuilder {
    name: Option<Arc<str>>,
    url: String,
    /// In place of the URL.
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
    /// Starts with the URL of the endpoint: absolute, `https` unless it is on this machine,
    /// without user info and fragment.
    pub fn builder(url: impl Into<String>) -> TokenEndpointBuilder {
        TokenEndpointBuilder::new(url.into())
    }

    /// Starts with the issuer, whose metadata say where the endpoint is (RFC 8414, `OpenID` Connect
    /// Discovery): absolute, `https` unless it is on this machine, without user info, query and
    /// fragment, as the service writes it.
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
    /// [`build`](TokenEndpointBuilder::build) sends nothing. The first fetch reads the metadata, by
    /// the endpoint's own transport: a `GET`, without credentials, of
    /// `/.well-known/oauth-authorization-server` before the issuer's path and, if there is nothing,
    /// of `/.well-known/openid-configuration` behind it. They are kept for the `max-age` of their
    /// `Cache-Control`, but for five minutes at least and a day at most; an hour if there is none.
    /// What was read last serves while a new reading fails. If the endpoint seems to have moved
    /// (it cannot be reached, or answers 404, 405, 410 or with a redirect), the next fetch reads
    /// them anew, once they are five minutes old.
    ///
    /// - The `issuer` in them has to be this one, byte for byte (RFC 8414 §3.3).
    /// - The `token_endpoint` is `https`, on whatever host. It may be plain `http` on this machine
    ///   if the issuer is plain `http` too, or anywhere with
    ///   [`allow_plaintext`](TokenEndpointBuilder::allow_plaintext).
    /// - With a client certificate, the endpoint among the `mtls_endpoint_aliases` is
    ///   used, if there is one (RFC 8705 §5).
    /// - `token_endpoint_auth_methods_supported` chooses the
    ///   [`client_auth`](TokenEndpointBuilder::client_auth), if that is not set: Basic, else the
    ///   body; for a client without a secret `none` first.
    /// - They are read up to 1 MiB, and a redirect is not followed.
    ///
    /// A reading may take as long as the [`timeout`](TokenEndpointBuilder::timeout); 5 s, if none
    /// is set. An error about the metadata is an [`EndpointError`](super::EndpointError) that
    /// [says so](super::EndpointError::is_about_metadata).
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

    /// The name of the endpoint in events, metrics, errors and the status of a cache that has no
    /// [name](crate::TokenCache::named) of its own: not empty. It tells two clients of one token
    /// service apart.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Another URL than the one that the builder began with. After
    /// [`discover`](TokenEndpoint::discover) no metadata are read any more.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self.issuer = None;
        self
    }

    /// Permits an `http://` URL of another machine, over which the credentials can be read by
    /// anybody on the way. For this machine (loopback) it is always permitted.
    pub fn allow_plaintext(mut self) -> Self {
        self.allow_plaintext = true;
        self
    }

    /// The client's id: not empty.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// The client's secret. A client that has none to show sends an empty one with Basic, and
    /// no `client_secret` in a body.
    pub fn client_secret(mut self, client_secret: impl Into<Secret>) -> Self {
        self.client_secret = Some(client_secret.into());
        self
    }

    /// Where the client's id and secret go.
    ///
    /// Default: [`ClientAuth::Basic`] if there is a client id or a secret, whatever the grant, and
    /// also if there is an id alone. Without either, another grant than client credentials has
    /// [`ClientAuth::None`]. So has a client with a certificate and no secret. A service whose
    /// metadata are [discovered](TokenEndpoint::discover) says itself which one it takes.
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.client_auth = Some(client_auth);
        self
    }

    /// Proves who the client is by an assertion in place of a secret (RFC 7523 §2.2). The client's
    /// id goes into the body beside it.
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

    /// What the service is known to want of assertions.
    pub(super) fn assertion_profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Signs the grant with the key of a service account: the text of its file.
    #[cfg(feature = "jwt")]
    pub(super) fn service_account(mut self, file: Secret) -> Self {
        self.grant = Chosen::ServiceAccount(file);
        self
    }

    /// How the body is written. Default: [`BodyFormat::Form`]. It does not move the credentials:
    /// a service that wants them in a JSON body wants [`ClientAuth::Body`] too.
    pub fn body_format(mut self, format: BodyFormat) -> Self {
        self.format = format;
        self
    }

    /// Exchanges a refresh token (RFC 6749 §6): first this one, then the one that came last.
    ///
    /// The endpoint does not send a refresh token again that has been replaced. If the service
    /// no longer takes the last one and this [`Secret`] reads something new, the endpoint sends
    /// that: a new login needs no restart.
    ///
    /// Each exchange may take 10 s, if no [`timeout`](Self::timeout) is set.
    pub fn refresh_token(mut self, refresh_token: impl Into<Secret>) -> Self {
        self.grant = Chosen::RefreshToken(refresh_token.into());
        self
    }

    /// Hands each new refresh token to an async function, the hook, which can store it for the
    /// next start of the program.
    ///
    /// The hook runs on a task of its own, and neither requests nor refreshes wait for it: the
    /// next exchange sends the new refresh token, stored or not. It gets one token after another,
    /// in the order in which they came, each when it has ended with the one before. It goes on
    /// even if the fetch or the endpoint is dropped, because by then the old refresh token may be
    /// worth nothing. If it takes longer than 10 s, a warning is logged. If its runtime ends
    /// first, it is called again with the same token on the next runtime. A program that ends
    /// after a fetch should wait for
    /// [`refresh_tokens_stored`](TokenEndpoint::refresh_tokens_stored).
    ///
    /// The hook has to report its own failures. The endpoint keeps it and calls it from any
    /// thread, hence the bounds.
    pub fn on_new_refresh_token<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Zeroizing<String>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.hook = Some(Box::new(move |token| Box::pin(hook(token))));
        self
    }

    /// Exchanges a token for another (RFC 8693): that of the request's [`Subject`], or one that
    /// is fixed.
    ///
    /// A refresh token in the answer is dropped: the subject's token is exchanged again.
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
    /// // A `KeyedTokenCache` makes such a request for each key that it is asked about.
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

    /// Redeems an assertion that somebody else has signed (RFC 7523 §2.1), read anew for each
    /// fetch: `assertion`, with `urn:ietf:params:oauth:grant-type:jwt-bearer`.
    pub fn jwt_bearer(mut self, assertion: impl Into<Secret>) -> Self {
        self.grant = Chosen::JwtBearer(assertion.into());
        self
    }

    /// Redeems the token of the request's [`Subject`](crate::Subject) as an assertion
    /// (RFC 7523 §2.1), so that the answer acts on the subject's behalf. For Microsoft Entra
    /// there is [`entra_on_behalf_of`](super::providers::entra_on_behalf_of).
    ///
    /// A refresh token in the answer is dropped: the subject's token is redeemed again.
    #[cfg(feature = "keyed")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
    pub fn jwt_bearer_on_behalf_of(mut self) -> Self {
        self.grant = Chosen::JwtBearerOnBehalfOf;
        self
    }

    /// Another grant than client credentials: its `grant_type`, for instance
    /// `urn:ietf:params:oauth:grant-type:saml2-bearer`. Add what it needs beside that with
    /// [`param`](Self::param) and [`secret_param`](Self::secret_param).
    ///
    /// The endpoint makes the same request for every token. It drops a refresh token in the
    /// answer, also where the service may send one, as for `password` (RFC 6749 §4.3.3). If the
    /// user's password is not to be sent again, or not to be kept at all, log in once by other
    /// means, and give the refresh token of that to [`refresh_token`](Self::refresh_token).
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

    /// The scope that is asked for: names with spaces between them (RFC 6749 §3.3).
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// The audience that the token is for.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Adds a resource that the token is for: an absolute URI without fragment (RFC 8707 §2).
    /// It can be repeated.
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resources.push(resource.into());
        self
    }

    /// Adds a parameter, which an error may show: a secret goes into
    /// [`secret_param`](Self::secret_param). Its name may not repeat another one, and what has
    /// a method of its own is not a parameter. It can be repeated.
    pub fn param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.params.push((name.into(), Text::Plain(value.into())));
        self
    }

    /// Adds a parameter whose value is a secret: it is read anew for each fetch, and no error
    /// shows it. For the name, the same holds as for that of a [`param`](Self::param).
    pub fn secret_param(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.params.push((name.into(), Text::Secret(value.into())));
        self
    }

    /// Adds a header: a text, which an error may show, or a [`Secret`], which is read anew for
    /// each fetch and which no error shows. Either is marked as sensitive. `Authorization`,
    /// `Host`, `Transfer-Encoding` and those that begin with `Content-` are not to be set. It
    /// can be repeated.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<HeaderText>) -> Self {
        self.headers.push((name.into(), value.into().text));
        self
    }

    /// The `User-Agent`. Default: `tower-bearer/` and the version.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// Under which name a member of the answer comes, if it is none of the
    /// [usual ones](Field), which then count no more. It can be repeated for other members.
    pub fn field(mut self, field: Field, name: impl Into<String>) -> Self {
        self.names.set(field, name.into());
        self
    }

    /// How long one exchange may take, from the connection to the last byte of the answer:
    /// more than nothing.
    ///
    /// Default: no limit of its own (but [one for refresh tokens](Self::refresh_token)), so
    /// that [the policy's](crate::RefreshPolicyBuilder::attempt_timeout) holds. The cache learns
    /// of one that is set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How long connecting may take. It is a setting of the ready-made transport; one that is
    /// [given](Self::transport) has its own.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// Trusts an authority beside those of the system: one certificate in PEM, or several, as
    /// the contents of a file. It can be repeated.
    ///
    /// It is a setting of the ready-made transport, read once, when the endpoint is
    /// [built](Self::build).
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

    /// Shows a certificate when it connects (mutual TLS): its own first, then those that vouch for
    /// it, and its key, each in PEM. The key is PKCS #8, PKCS #1 or SEC 1, and not encrypted. One
    /// file may hold both.
    ///
    /// A client with a certificate and no [`client_secret`](Self::client_secret) is known by the
    /// certificate (`tls_client_auth`, `self_signed_tls_client_auth`, RFC 8705 §2): only its
    /// [`client_id`](Self::client_id) is sent. With a secret the certificate stands beside it.
    ///
    /// Both are read anew for each fetch. When one has changed, the next fetch connects with the
    /// new certificate, and connections that show the old one are closed once no exchange uses
    /// them any more. If what is read cannot be used (a file that is half written, a key that
    /// belongs to another certificate, a certificate that has expired), that fetch fails with
    /// [`ClientCertificate`](super::EndpointErrorKind::ClientCertificate) and sends nothing; a
    /// token that is still good remains in use.
    ///
    /// A server that does not take the certificate often ends the connection without an answer, after
    /// it was made. That counts as a failure that may pass, so it is tried again, with what is read
    /// then; the error has the server's alert.
    ///
    /// What this crate holds of the key is wiped. rustls and reqwest keep the key for as long as
    /// they connect with it, and do not promise to wipe their copies.
    ///
    /// It is a setting of the ready-made transport, and for `https` alone.
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

    /// Connects by way of a proxy, whatever the environment says:
    /// `http://proxy.example.com:3128`, or `https`. User and password go into the URL; no error
    /// shows it.
    ///
    /// It is a setting of the ready-made transport. The proxy tunnels TLS (`CONNECT`, RFC 9110
    /// §9.3.6), so it does not see the credentials. For an `http` URL of the endpoint it would;
    /// [`allow_plaintext`](Self::allow_plaintext) permits that.
    #[cfg(feature = "reqwest")]
    #[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.ready_made.proxy = Some(Zeroizing::new(url.into()));
        self
    }

    /// The service that requests to the endpoint are sent with, and those for its
    /// [metadata](TokenEndpoint::discover): any tower client stack that does not follow redirects.
    ///
    /// Default, with feature `reqwest`: a client of its own that follows no redirect, speaks
    /// TLS by rustls, and uses the proxies of the environment for what is neither plaintext
    /// nor on this machine. `root_certificate`, `client_certificate` and `proxy` are settings of
    /// that one: a transport that is given has its own.
    ///
    /// Each exchange clones `S` and polls the clone ready; exchanges run on tasks, hence
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
        // Neither the URL, which may have a password in it, nor what may be a secret.
        f.debug_struct("TokenEndpointBuilder")
            .field("grant_type", &self.grant.grant_type())
            .field("client_id", &self.client_id)
            .field("client_auth", &self.client_auth)
            .field("client_assertion", &self.client_assertion)
            .field("body_format", &self.format)
            .finish_non_exhaustive()
    }
}
