//! Makes the assertion for one exchange.

use std::{sync::Arc, time::Duration};

use zeroize::Zeroizing;

use super::{
    jwt::{self, Claims, Header},
    signature,
    signer::AnySigner,
    unusable::{Problem, Unusable, UnusableCredential},
};
use crate::secret::Secret;

#[cfg(feature = "jwt")]
use super::{
    algorithm::SigningAlgorithm, blocking::off_thread, certificate::Certificates,
    key::sign_with_secret, parse::parse,
};

type Text = Zeroizing<String>;
type Outcome<T> = Result<T, UnusableCredential>;

/// Makes a client's assertions.
pub(crate) struct Prover {
    pub(super) means: Means,
    pub(super) assertion_type: &'static str,
}

pub(super) enum Means {
    /// A third party issues them.
    Given(Secret),
    Made(Maker, Arc<Contents>),
}

/// What signs an assertion of this crate.
#[derive(Clone, Debug)]
pub(super) enum Maker {
    Signer(Arc<dyn AnySigner>),
    #[cfg(feature = "jwt")]
    PrivateKey(Secret),
    #[cfg(feature = "jwt")]
    ClientSecret(Secret),
}

/// The contents of an assertion of this crate.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) client_id: String,
    pub(super) audience: String,
    pub(super) header_type: String,
    pub(super) key_id: Option<String>,
    #[cfg(feature = "jwt")]
    pub(super) certificate: Option<Secret>,
    #[cfg(feature = "jwt")]
    pub(super) algorithm: Option<SigningAlgorithm>,
    #[cfg(feature = "jwt")]
    pub(super) usual_of_rsa: SigningAlgorithm,
    pub(super) life: Duration,
    pub(super) has_not_before: bool,
}

// ===== impl Prover =====

impl Prover {
    /// The secrets that each exchange reads again, in the order in which they are passed back.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let secrets = match &self.means {
            Means::Given(token) => [Some(token), None],
            Means::Made(Maker::Signer(_), contents) => [contents.certificate(), None],
            #[cfg(feature = "jwt")]
            Means::Made(Maker::PrivateKey(key), contents) => [Some(key), contents.certificate()],
            #[cfg(feature = "jwt")]
            Means::Made(Maker::ClientSecret(secret), _) => [Some(secret), None],
        };
        secrets.into_iter().flatten()
    }

    /// The tolerated clock skew, if this machine dates the assertion: beyond that it has expired.
    pub(crate) fn tolerated_skew(&self) -> Option<Duration> {
        self.contents().map(|contents| contents.life)
    }

    /// The audience, if the settings name it.
    pub(crate) fn audience(&self) -> Option<&str> {
        self.contents().map(|contents| contents.audience.as_str())
    }

    fn contents(&self) -> Option<&Contents> {
        match &self.means {
            Means::Given(_) => None,
            Means::Made(_, contents) => Some(contents),
        }
    }

    /// Makes the assertion, and returns it with its type.
    pub(crate) async fn prove(&self, read: &[Text]) -> Outcome<(&'static str, Text)> {
        let first = read.first();
        let assertion = match &self.means {
            Means::Given(token) => given(token, present(first))?,
            Means::Made(Maker::Signer(signer), contents) => {
                contents.by_signer(&**signer, first).await?
            }
            #[cfg(feature = "jwt")]
            Means::Made(Maker::PrivateKey(key), contents) => {
                contents.by_key(key, present(first), read.get(1)).await?
            }
            #[cfg(feature = "jwt")]
            Means::Made(Maker::ClientSecret(secret), contents) => {
                contents.by_secret(secret, present(first))?
            }
        };
        Ok((self.assertion_type, assertion))
    }
}

#[expect(clippy::expect_used, reason = "each secret has been read")]
fn present(read: Option<&Text>) -> &Text {
    read.expect("each secret has been read")
}

/// An assertion of a third party.
fn given(secret: &Secret, token: &Text) -> Outcome<Text> {
    jwt::check_shape(token).map_err(|unusable| UnusableCredential::of(secret, unusable))?;
    Ok(token.clone())
}

// ===== impl Contents =====

impl Contents {
    async fn by_signer(&self, signer: &dyn AnySigner, certificate: Option<&Text>) -> Outcome<Text> {
        let problem = |problem| UnusableCredential::at("the signer", problem);
        let unusable = |unusable| problem(Problem::Unusable(unusable));
        let key_id = self.key_id.clone().or_else(|| signer.key_id());
        let algorithm = signer.algorithm();
        let mut header = Header::new(algorithm, &self.header_type, key_id.as_deref());
        self.certify(&mut header, certificate, None)?;
        let message = self.message(&header).map_err(unusable)?;
        let signature = signer.sign(message.as_bytes()).await;
        let signature = signature.map_err(|error| problem(Problem::Signer(error.into())))?;
        let signature = signature::fixed(algorithm, signature);
        Ok(jwt::signed(&message, &signature.ok_or_else(|| unusable(Unusable::BadSignature))?))
    }

    /// Signs on a blocking thread: RSA takes milliseconds, and the kind of key is unknown before
    /// parsing.
    #[cfg(feature = "jwt")]
    async fn by_key(
        self: &Arc<Self>,
        key: &Secret,
        text: &Text,
        certificate: Option<&Text>,
    ) -> Outcome<Text> {
        let (contents, certificate) = (Arc::clone(self), certificate.cloned());
        let (secret, text) = (key.clone(), text.clone());
        let signing = move || {
            let unusable = |unusable| UnusableCredential::of(&secret, unusable);
            let parsed = parse(&text).map_err(unusable)?;
            let algorithm =
                parsed.algorithm(contents.algorithm, contents.usual_of_rsa).map_err(unusable)?;
            let key_id = contents.key_id.as_deref().or(parsed.key_id.as_deref());
            let mut header = Header::new(algorithm, &contents.header_type, key_id);
            contents.certify(&mut header, certificate.as_ref(), Some(parsed.key.public()))?;
            let message = contents.message(&header).map_err(unusable)?;
            let signature = parsed.key.sign(algorithm, message.as_bytes()).map_err(unusable)?;
            Ok(jwt::signed(&message, &signature))
        };
        let lost = |unusable| UnusableCredential::of(key, unusable);
        off_thread(signing).await.map_err(lost)?
    }

    #[cfg(feature = "jwt")]
    fn by_secret(&self, secret: &Secret, text: &Text) -> Outcome<Text> {
        let unusable = |unusable| UnusableCredential::of(secret, unusable);
        let algorithm = self.algorithm.unwrap_or(SigningAlgorithm::Hs256);
        let header = Header::new(algorithm, &self.header_type, self.key_id.as_deref());
        let message = self.message(&header).map_err(unusable)?;
        let signature = sign_with_secret(algorithm, text, message.as_bytes()).map_err(unusable)?;
        Ok(jwt::signed(&message, &signature))
    }

    fn message(&self, header: &Header<'_>) -> Result<String, Unusable> {
        let now = jwt::now();
        let claims = Claims {
            iss: &self.client_id,
            sub: Some(&self.client_id),
            aud: &self.audience,
            scope: None,
            jti: Some(jwt::id()?),
            iat: now,
            nbf: self.has_not_before.then_some(now),
            exp: now.saturating_add(self.life.as_secs()),
        };
        Ok(jwt::message(header, &claims))
    }

    #[cfg(feature = "jwt")]
    fn certificate(&self) -> Option<&Secret> {
        self.certificate.as_ref()
    }

    /// Adds the certificate to the header.
    #[cfg(feature = "jwt")]
    fn certify(
        &self,
        header: &mut Header<'_>,
        read: Option<&Text>,
        public_key: Option<&[u8]>,
    ) -> Outcome<()> {
        let (Some(secret), Some(text)) = (&self.certificate, read) else { return Ok(()) };
        let certified = || {
            let certificates = Certificates::parse(text)?;
            certificates.check(public_key, std::time::SystemTime::now())?;
            Ok(certificates)
        };
        let certificates =
            certified().map_err(|unusable| UnusableCredential::of(secret, unusable))?;
        header.thumbprint = certificates.thumbprint();
        header.chain = certificates.chain();
        Ok(())
    }
}

/// Without the feature there is no hash for certificates.
#[cfg(not(feature = "jwt"))]
#[expect(
    clippy::unused_self,
    clippy::unnecessary_wraps,
    reason = "the same signature as with feature `jwt`"
)]
impl Contents {
    fn certificate(&self) -> Option<&Secret> {
        None
    }

    fn certify(&self, _: &mut Header<'_>, _: Option<&Text>, _: Option<&[u8]>) -> Outcome<()> {
        Ok(())
    }
}
