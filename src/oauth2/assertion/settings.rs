//! What is set about a client's assertion, and the checks that it has to pass.

use std::{fmt, sync::Arc, time::Duration};

use url::Url;

use super::{
    algorithm::SigningAlgorithm,
    prover::{Maker, Means, Prover, Said},
    signer::Signer,
};
use crate::secret::Secret;

#[cfg(feature = "jwt")]
use super::{algorithm::KeyKind, key::check_secret, parse::parse, unusable::Unusable};

/// The `typ` of draft-ietf-oauth-rfc7523bis §4.
const HEADER_TYPE: &str = "client-authentication+jwt";
const LIFE: Duration = Duration::from_secs(60);
const LONGEST_LIFE: Duration = Duration::from_secs(3600);

/// How a client proves who it is without showing a secret: by a JWT that is signed (RFC 7523
/// §2.2), for
/// [`TokenEndpointBuilder::client_assertion`](super::super::TokenEndpointBuilder::client_assertion).
///
/// | made by | signed with | also called |
/// | --- | --- | --- |
/// | `private_key` | a private key, by feature `jwt` | `private_key_jwt` |
/// | `client_secret` | the client's secret, by feature `jwt` | `client_secret_jwt` |
/// | [`signer`](Self::signer) | a key in a KMS or an HSM | `private_key_jwt` |
/// | [`token`](Self::token) | given by somebody else, in a file for instance | federation |
///
/// One that is made here is made anew for each exchange, a repeated one included: it has an id of
/// its own (`jti`, 128 bits), is issued now and lives for 60 s. `iss` and `sub` are the client's
/// id. Whatever it is made of is read anew for each fetch, so a key that is rotated needs no
/// restart; while it cannot be used, the fetch fails, and the last token stays in use.
///
/// # Whom it is for
///
/// The only audience (`aud`) is the issuer of the authorization server, as its metadata name it
/// (RFC 8414 §2), character for character: say it by [`issuer`](Self::issuer), unless the endpoint
/// is one of the [`providers`](super::super::providers) that know it. An audience that several
/// servers would take, such as the URL of a token endpoint that a server may claim to have, lets
/// one of them use the assertion at another (draft-ietf-oauth-rfc7523bis §1). Where a server takes
/// nothing else, [`audience`](Self::audience) has it.
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

/// Whom an assertion is for: its `aud`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Audience {
    /// The issuer of the authorization server, as its metadata name it: an absolute URL.
    Issuer(String),
    /// The URL of the token endpoint, for servers that know nothing else. If the client has
    /// registered with more than one server, each of them can use at any other what it is sent,
    /// unless the URL is one that you know and that none of them has told you.
    TokenEndpoint,
    /// A text that the server wants and that is neither.
    Exactly(String),
}

/// What an assertion is that somebody else gives (`client_assertion_type`).
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

/// What a service is known to want of assertions, if nothing else is said.
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
    /// It has to be RSA of 2048 bits at least, P-256, P-384 or Ed25519, and not encrypted. The
    /// usual algorithm for it is used, `RS256`, `ES256`, `ES384` or `EdDSA`, unless
    /// [another](Self::algorithm) is said; of a JWK its `alg` and its `kid` are heeded. The key is
    /// read and used on a thread for what blocks.
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    pub fn private_key(key: impl Into<Secret>) -> Self {
        Self::new(Kind::Made(Maker::PrivateKey(key.into())))
    }

    /// Signs with the client's secret (`client_secret_jwt`), by `HS256` unless
    /// [another algorithm](Self::algorithm) is said. The secret itself is not sent.
    ///
    /// It has to be as long as the algorithm's hash: 32 bytes, 48 or 64 (RFC 7518 §3.2).
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    pub fn client_secret(secret: impl Into<Secret>) -> Self {
        Self::new(Kind::Made(Maker::ClientSecret(secret.into())))
    }

    /// Has it signed with a key that this program does not have.
    pub fn signer(signer: impl Signer) -> Self {
        Self::new(Kind::Made(Maker::Signer(Arc::new(signer))))
    }

    /// Shows an assertion that somebody else gives, read anew for each fetch: the token of a
    /// Kubernetes service account, of a CI job, a JWT-SVID.
    ///
    /// The client's id is sent if there is one. What the assertion says, and for how long, is
    /// decided by whoever gives it.
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

    /// The id of the key (`kid`), by which the service finds the public one.
    pub fn key_id(mut self, key_id: impl Into<String>) -> Self {
        self.key_id = Some(key_id.into());
        self
    }

    /// The certificate of the key in PEM, and those of its issuers if there are any, the key's own
    /// first: for services that know the client by it (`x5t#S256` and `x5c`, RFC 7515 §4.1.6).
    ///
    /// It may be the same file as the key's. It has to be the key's, and not to have expired.
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    pub fn certificate(mut self, certificate: impl Into<Secret>) -> Self {
        self.certificate = Some(certificate.into());
        self
    }

    /// Signs by another algorithm than the usual one.
    pub fn algorithm(mut self, algorithm: SigningAlgorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// The issuer of the authorization server, which is the only one that the assertion is for: a
    /// short form of [`Audience::Issuer`].
    pub fn issuer(self, issuer: impl Into<String>) -> Self {
        self.audience(Audience::Issuer(issuer.into()))
    }

    /// Whom the assertion is for.
    pub fn audience(mut self, audience: Audience) -> Self {
        self.audience = Some(audience);
        self
    }

    /// The `typ` of the header. Default: `client-authentication+jwt`; some servers want `JWT`.
    pub fn header_type(mut self, header_type: impl Into<String>) -> Self {
        self.header_type = Some(header_type.into());
        self
    }

    /// How long it lives, in whole seconds from 1 s to an hour. Default: 60 s.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// What the assertion is that somebody else [gives](Self::token).
    pub fn assertion_type(mut self, assertion_type: AssertionType) -> Self {
        self.assertion_type = Some(assertion_type);
        self
    }

    /// Checks what is set. `url`: of the token endpoint, if that is known.
    ///
    /// # Errors
    ///
    /// What is wrong, to be said of the setting.
    pub(crate) fn prover(
        self,
        client_id: Option<&str>,
        url: Option<&str>,
        profile: Profile,
    ) -> Result<Prover, &'static str> {
        let assertion_type = self.assertion_type.unwrap_or_default().as_str();
        let means = match self.kind {
            Kind::Given(_) if self.says_something() => {
                return Err(
                    "has a setting beside its token, which somebody else has made and signed: \
                     leave it out",
                );
            }
            Kind::Given(token) => Means::Given(token),
            Kind::Made(_) if self.assertion_type.is_some() => {
                return Err("has an `assertion_type`, which only one that is given has");
            }
            Kind::Made(ref maker) => {
                self.check(maker)?;
                let client_id = client_id.ok_or("needs a `client_id`: it is who is asking")?;
                let maker = maker.clone();
                Means::Made(maker, Arc::new(self.said(client_id, url, profile)?))
            }
        };
        Ok(Prover { means, assertion_type })
    }

    /// Whether anything is set that is for those alone that are made here.
    fn says_something(&self) -> bool {
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
                Err("has an `algorithm`, which its signer has already")
            }
            Maker::Signer(_) => Ok(()),
            #[cfg(feature = "jwt")]
            Maker::PrivateKey(key) => {
                if self.algorithm.map(SigningAlgorithm::key_kind) == Some(KeyKind::Secret) {
                    return Err("has an `algorithm` that is for `client_secret` alone");
                }
                // One that is in a file may not be there yet.
                let Some(text) = key.fixed() else { return Ok(()) };
                let usual = SigningAlgorithm::Rs256;
                let found = parse(text).and_then(|key| key.algorithm(self.algorithm, usual));
                found.map(drop).map_err(Unusable::text)
            }
            #[cfg(feature = "jwt")]
            Maker::ClientSecret(_) if self.certificate.is_some() => {
                Err("has a `certificate`, which a secret has not")
            }
            #[cfg(feature = "jwt")]
            Maker::ClientSecret(secret) => {
                let algorithm = self.algorithm.unwrap_or(SigningAlgorithm::Hs256);
                if algorithm.key_kind() != KeyKind::Secret {
                    return Err("has an `algorithm` that is for `private_key` alone");
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
    ) -> Result<Said, &'static str> {
        let audience = match self.audience.or(profile.audience) {
            None => {
                return Err(
                    "needs to know whom it is for: say the authorization server's issuer by \
                     `.issuer(\"https://…\")` on it, as the server's metadata have it",
                );
            }
            Some(Audience::Issuer(issuer)) if Url::parse(&issuer).is_err() => {
                return Err("has an `issuer` that is no absolute URL (RFC 8414 §2)");
            }
            Some(Audience::Issuer(text) | Audience::Exactly(text)) => text,
            Some(Audience::TokenEndpoint) => url
                .ok_or(
                    "is for the token endpoint's URL, which the issuer's metadata will say: leave \
                     the audience out, so that it is the issuer, or say it by \
                     `Audience::Exactly`",
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
            return Err("has a `lifetime` that is none in whole seconds from 1 s to an hour");
        }
        Ok(Said {
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
    /// For a service whose issuer is known.
    pub(crate) fn issuer(issuer: String) -> Self {
        Self { audience: Some(Audience::Issuer(issuer)), ..Self::default() }
    }

    /// For a service that takes nothing but the URL of its token endpoint.
    pub(crate) fn token_endpoint() -> Self {
        Self { audience: Some(Audience::TokenEndpoint), ..Self::default() }
    }
}
