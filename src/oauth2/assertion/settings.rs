//! The settings of a client's assertion, and their checks.

use std::{fmt, sync::Arc, time::Duration};

use url::Url;

use super::{
    algorithm::SigningAlgorithm,
    prover::{Contents, Maker, Means, Prover},
    signer::Signer,
};
use crate::secret::Secret;

#[cfg(feature = "jwt")]
use super::{algorithm::KeyKind, key::check_secret, parse::parse, unusable::Unusable};

/// The `typ` of draft-ietf-oauth-rfc7523bis §4.
const HEADER_TYPE: &str = "client-authentication+jwt";
const LIFE: Duration = Duration::from_secs(60);
const LONGEST_LIFE: Duration = Duration::from_secs(3600);

/// A signed JWT that authenticates a client without sending a secret (RFC 7523 §2.2), for
/// [`TokenEndpointBuilder::client_assertion`](super::super::TokenEndpointBuilder::client_assertion).
///
/// | method | signed with | also called |
/// | --- | --- | --- |
/// | `private_key` | a private key (feature `jwt`) | `private_key_jwt` |
/// | `client_secret` | the client's secret (feature `jwt`) | `client_secret_jwt` |
/// | [`signer`](Self::signer) | a key in a KMS or an HSM | `private_key_jwt` |
/// | [`token`](Self::token) | by a third party, and read from a file for instance | federation |
///
/// Except for `token`, each exchange makes a new assertion, even when it repeats a request. The
/// assertion has a new id (`jti`, 128 bits), is issued now and has a lifetime of 60 s. `iss` and
/// `sub` are the client id. Each fetch reads the keys again, so that rotating a key needs no
/// restart. If a key cannot be used, the fetch fails, and the last token stays in use.
///
/// # Audience
///
/// The only audience (`aud`) is the issuer of the authorization server, exactly as its metadata
/// name it (RFC 8414 §2). Set it with [`issuer`](Self::issuer), unless the endpoint knows it: after
/// [`TokenEndpoint::discover`](crate::oauth2::TokenEndpoint::discover), and with the
/// [`providers`](super::super::providers) that set it. If several servers accept an audience, one
/// of them can use the assertion at another (draft-ietf-oauth-rfc7523bis §1). The URL of a token
/// endpoint is such an audience, because a server can claim another server's URL. If a server
/// accepts no other audience, set [`audience`](Self::audience).
///
/// ```
/// use tower_bearer::{Secret, oauth2::{ClientAssertion, TokenEndpoint}};
///
/// # #[cfg(feature = "jwt")] {
/// let assertion = ClientAssertion::private_key(Secret::file("/run/secrets/key.pem"))
///     .key_id("2026-05")
///     .issuer("https://auth.example.com");
/// let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
///     .client_id("my-app")
///     .client_assertion(assertion);
/// # #[cfg(feature = "reqwest")]
/// # endpoint.build()?;
/// # }
/// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct ClientAssertion {
    kind: Kind,
    #[cfg(feature = "jwt")]
    certificate: Option<Secret>,
    key_id: Option<String>,
    algorithm: Option<SigningAlgorithm>,
    audience: Option<Audience>,
    header_type: Option<String>,
    lifetime: Option<Duration>,
    assertion_type: Option<AssertionType>,
}

#[derive(Clone)]
enum Kind {
    Given(Secret),
    Made(Maker),
}

/// The audience of an assertion: its `aud`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Audience {
    /// The issuer of the authorization server, as its metadata name it: an absolute URL.
    Issuer(String),
    /// The URL of the token endpoint, for servers that accept nothing else. If the client is
    /// registered with more than one server, get the URL from a source that these servers do not
    /// control: a server that gives you another server's URL could use the assertion there.
    TokenEndpoint,
    /// Another text that the server requires.
    Exactly(String),
}

/// The type of an assertion from a third party (`client_assertion_type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum AssertionType {
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer` (RFC 7523 §2.2)
    #[default]
    JwtBearer,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-spiffe`: a JWT-SVID
    /// (draft-ietf-oauth-spiffe-client-auth §3.1)
    JwtSpiffe,
}

/// The defaults for assertions to a known service.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) audience: Option<Audience>,
    pub(crate) header_type: &'static str,
    #[cfg(feature = "jwt")]
    pub(crate) usual_of_rsa: SigningAlgorithm,
    pub(crate) has_not_before: bool,
}

// ===== impl ClientAssertion =====

impl ClientAssertion {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            #[cfg(feature = "jwt")]
            certificate: None,
            key_id: None,
            algorithm: None,
            audience: None,
            header_type: None,
            lifetime: None,
            assertion_type: None,
        }
    }

    /// Signs with a private key (`private_key_jwt`): PEM (PKCS#8, PKCS#1 or SEC1) or a JWK.
    ///
    /// The key must be RSA of at least 2048 bits, P-256, P-384 or Ed25519, and not encrypted. The
    /// default algorithm is `RS256`, `ES256`, `ES384` or `EdDSA`, by the kind of key; set another
    /// with [`algorithm`](Self::algorithm). The `alg` and `kid` of a JWK apply. Parsing and signing
    /// run on a thread for blocking work.
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    pub fn private_key(key: impl Into<Secret>) -> Self {
        Self::new(Kind::Made(Maker::PrivateKey(key.into())))
    }

    /// Signs with the client's secret (`client_secret_jwt`), with `HS256` unless you set another
    /// [`algorithm`](Self::algorithm). The secret itself is not sent.
    ///
    /// It must be at least as long as the algorithm's hash: 32, 48 or 64 bytes (RFC 7518 §3.2).
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    pub fn client_secret(secret: impl Into<Secret>) -> Self {
        Self::new(Kind::Made(Maker::ClientSecret(secret.into())))
    }

    /// Signs with a key outside this program.
    pub fn signer(signer: impl Signer) -> Self {
        Self::new(Kind::Made(Maker::Signer(Arc::new(signer))))
    }

    /// Sends an assertion that a third party has issued: the token of a Kubernetes service account
    /// or of a CI job, a JWT-SVID. Each fetch reads it again.
    ///
    /// The endpoint also sends the client id, if there is one. The issuer of the assertion decides
    /// on its claims and its lifetime.
    ///
    /// ```
    /// use tower_bearer::{
    ///     Secret,
    ///     oauth2::{AssertionType, ClientAssertion, TokenEndpoint},
    /// };
    ///
    /// let svid = ClientAssertion::token(Secret::file("/run/spire/svid.jwt"))
    ///     .assertion_type(AssertionType::JwtSpiffe);
    /// let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
    ///     .client_id("spiffe://example.com/orders")
    ///     .client_assertion(svid);
    /// # #[cfg(feature = "reqwest")]
    /// # endpoint.build()?;
    /// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
    /// ```
    pub fn token(token: impl Into<Secret>) -> Self {
        Self::new(Kind::Given(token.into()))
    }

    /// Sets the id of the key (`kid`), by which the service finds the public key.
    pub fn key_id(mut self, key_id: impl Into<String>) -> Self {
        self.key_id = Some(key_id.into());
        self
    }

    /// Adds the certificate of the key in PEM, followed by those of its issuers, if any: for
    /// services that identify the client by it (`x5t#S256` and `x5c`, RFC 7515 §4.1.6).
    ///
    /// The file may be that of the key. The certificate must match the key, and must not have
    /// expired.
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    pub fn certificate(mut self, certificate: impl Into<Secret>) -> Self {
        self.certificate = Some(certificate.into());
        self
    }

    /// Sets an algorithm other than the default.
    pub fn algorithm(mut self, algorithm: SigningAlgorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// Sets the issuer of the authorization server as the only audience: short for
    /// [`Audience::Issuer`].
    pub fn issuer(self, issuer: impl Into<String>) -> Self {
        self.audience(Audience::Issuer(issuer.into()))
    }

    /// Sets the audience.
    pub fn audience(mut self, audience: Audience) -> Self {
        self.audience = Some(audience);
        self
    }

    /// Sets the `typ` of the header. The default is `client-authentication+jwt`; some servers
    /// require `JWT`.
    pub fn header_type(mut self, header_type: impl Into<String>) -> Self {
        self.header_type = Some(header_type.into());
        self
    }

    /// Sets the lifetime, in whole seconds from 1 s to an hour. The default is 60 s.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Sets the type of an assertion from a [third party](Self::token).
    pub fn assertion_type(mut self, assertion_type: AssertionType) -> Self {
        self.assertion_type = Some(assertion_type);
        self
    }

    /// Checks the settings. `url` is that of the token endpoint, if it is known.
    ///
    /// # Errors
    ///
    /// The problem, as a predicate of the setting.
    pub(crate) fn prover(
        self,
        client_id: Option<&str>,
        url: Option<&str>,
        profile: Profile,
    ) -> Result<Prover, &'static str> {
        let assertion_type = self.assertion_type.unwrap_or_default().as_str();
        let means = match self.kind {
            Kind::Given(_) if self.has_signing_settings() => {
                return Err(
                    "has a setting that does not apply to a `token`, which a third party has signed: \
                     remove it",
                );
            }
            Kind::Given(token) => Means::Given(token),
            Kind::Made(_) if self.assertion_type.is_some() => {
                return Err(
                    "has an `assertion_type`, which is only for `ClientAssertion::token(..)`",
                );
            }
            Kind::Made(ref maker) => {
                self.check(maker)?;
                let client_id = client_id.ok_or("needs a `client_id`, which it authenticates")?;
                let maker = maker.clone();
                Means::Made(maker, Arc::new(self.said(client_id, url, profile)?))
            }
        };
        Ok(Prover { means, assertion_type })
    }

    /// Whether there is a setting that does not apply to a third party's assertion.
    fn has_signing_settings(&self) -> bool {
        #[cfg(feature = "jwt")]
        let has_certificate = self.certificate.is_some();
        #[cfg(not(feature = "jwt"))]
        let has_certificate = false;
        has_certificate
            || self.key_id.is_some()
            || self.algorithm.is_some()
            || self.audience.is_some()
            || self.header_type.is_some()
            || self.lifetime.is_some()
    }

    fn check(&self, maker: &Maker) -> Result<(), &'static str> {
        match maker {
            Maker::Signer(_) if self.algorithm.is_some() => {
                Err("has an `algorithm`, which its signer chooses")
            }
            Maker::Signer(_) => Ok(()),
            #[cfg(feature = "jwt")]
            Maker::PrivateKey(key) => {
                if self.algorithm.map(SigningAlgorithm::key_kind) == Some(KeyKind::Secret) {
                    return Err("has an `algorithm` that is only for `client_secret`");
                }
                // A key in a file may not exist yet.
                let Some(text) = key.fixed() else { return Ok(()) };
                let usual = SigningAlgorithm::Rs256;
                let found = parse(text).and_then(|key| key.algorithm(self.algorithm, usual));
                found.map(drop).map_err(Unusable::text)
            }
            #[cfg(feature = "jwt")]
            Maker::ClientSecret(_) if self.certificate.is_some() => {
                Err("has a `certificate`, which a secret cannot have")
            }
            #[cfg(feature = "jwt")]
            Maker::ClientSecret(secret) => {
                let algorithm = self.algorithm.unwrap_or(SigningAlgorithm::Hs256);
                if algorithm.key_kind() != KeyKind::Secret {
                    return Err("has an `algorithm` that is only for `private_key`");
                }
                let checked = secret.fixed().map_or(Ok(()), |text| check_secret(algorithm, text));
                checked.map_err(Unusable::text)
            }
        }
    }

    fn said(
        self,
        client_id: &str,
        url: Option<&str>,
        profile: Profile,
    ) -> Result<Contents, &'static str> {
        let audience = match self.audience.or(profile.audience) {
            None => {
                return Err("has no audience: set the authorization server's issuer with \
                     `.issuer(\"https://…\")` on it, as in the server's metadata");
            }
            Some(Audience::Issuer(issuer)) if Url::parse(&issuer).is_err() => {
                return Err("has an `issuer` that is not an absolute URL (RFC 8414 §2)");
            }
            Some(Audience::Issuer(text) | Audience::Exactly(text)) => text,
            Some(Audience::TokenEndpoint) => url
                .ok_or(
                    "has the token endpoint's URL as its audience, which is not known before the \
                     issuer's metadata are read: remove the audience, so that it is the issuer, or \
                     set it with `Audience::Exactly`",
                )?
                .to_owned(),
        };
        let header_type = self.header_type.unwrap_or_else(|| profile.header_type.to_owned());
        let is_empty = |text: Option<&str>| text == Some("");
        if is_empty(Some(&audience)) || is_empty(Some(&header_type)) {
            return Err("has an empty audience or header type");
        }
        if is_empty(self.key_id.as_deref()) {
            return Err("has an empty `key_id`");
        }
        let life = self.lifetime.unwrap_or(LIFE);
        if life.subsec_nanos() > 0 || life.is_zero() || life > LONGEST_LIFE {
            return Err("has a `lifetime` that is not in whole seconds from 1 s to an hour");
        }
        Ok(Contents {
            client_id: client_id.to_owned(),
            audience,
            header_type,
            key_id: self.key_id,
            #[cfg(feature = "jwt")]
            certificate: self.certificate,
            #[cfg(feature = "jwt")]
            algorithm: self.algorithm,
            #[cfg(feature = "jwt")]
            usual_of_rsa: profile.usual_of_rsa,
            life,
            has_not_before: profile.has_not_before,
        })
    }
}

impl fmt::Debug for ClientAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("ClientAssertion");
        match &self.kind {
            Kind::Given(token) => all.field("token", token),
            Kind::Made(maker) => all.field("made_by", maker),
        };
        #[cfg(feature = "jwt")]
        all.field("certificate", &self.certificate);
        all.field("key_id", &self.key_id)
            .field("algorithm", &self.algorithm)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

// ===== impl AssertionType =====

impl AssertionType {
    fn as_str(self) -> &'static str {
        match self {
            Self::JwtBearer => "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            Self::JwtSpiffe => "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe",
        }
    }
}

// ===== impl Profile =====

impl Default for Profile {
    fn default() -> Self {
        Self {
            audience: None,
            header_type: HEADER_TYPE,
            #[cfg(feature = "jwt")]
            usual_of_rsa: SigningAlgorithm::Rs256,
            has_not_before: false,
        }
    }
}

impl Profile {
    /// A service whose issuer is known.
    pub(crate) fn issuer(issuer: String) -> Self {
        Self { audience: Some(Audience::Issuer(issuer)), ..Self::default() }
    }

    /// A service that accepts only the URL of its token endpoint.
    pub(crate) fn token_endpoint() -> Self {
        Self { audience: Some(Audience::TokenEndpoint), ..Self::default() }
    }
}
