//! The key file of a Google service account, and the grant made from it (RFC 7523 §2.1).

use std::{borrow::Cow, time::Duration};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    algorithm::SigningAlgorithm,
    blocking::off_thread,
    jwt::{self, Claims, Header},
    parse::parse,
    unusable::{Unusable, UnusableCredential},
};
use crate::{json::Text, secret::Secret};

/// The name of the setting in errors.
const SETTING: &str = "google_service_account";
const TYPE: &str = "service_account";
const HEADER_TYPE: &str = "JWT";
/// The longest lifetime that Google accepts. Its own libraries use it.
const LIFE: Duration = Duration::from_secs(3600);
const TOLERATED: Duration = Duration::from_secs(60);
/// Google's current and former token endpoints. All are the same service, so a file that names one
/// of them is valid at any.
const TOKEN_URIS: [&str; 3] = [
    "https://oauth2.googleapis.com/token",
    "https://accounts.google.com/o/oauth2/token",
    "https://www.googleapis.com/oauth2/v4/token",
];

/// Makes the grant of a service account.
pub(crate) struct ServiceAccount {
    file: Secret,
}

/// The relevant members.
#[derive(Deserialize)]
struct File<'a> {
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    client_email: Option<&'a str>,
    private_key: Option<Text>,
    private_key_id: Option<Cow<'a, str>>,
    token_uri: Option<Cow<'a, str>>,
}

// ===== impl ServiceAccount =====

impl ServiceAccount {
    pub(crate) fn new(file: Secret) -> Self {
        Self { file }
    }

    /// The secret that each exchange reads again.
    pub(crate) fn secret(&self) -> &Secret {
        &self.file
    }

    /// The tolerated clock skew. Google does not accept a date in the future.
    pub(crate) fn tolerated() -> Duration {
        TOLERATED
    }

    /// Makes the grant. `url` is that of the token endpoint.
    pub(crate) async fn prove(
        &self,
        read: &Zeroizing<String>,
        scope: Option<&str>,
        url: &str,
    ) -> Result<Zeroizing<String>, UnusableCredential> {
        let (read, url) = (read.clone(), url.to_owned());
        let scope = scope.map(str::to_owned);
        let signed = off_thread(move || signed(&read, scope.as_deref(), &url)).await;
        signed
            .and_then(|signed| signed)
            .map_err(|unusable| UnusableCredential::of(&self.file, unusable).in_setting(SETTING))
    }
}

fn signed(text: &str, scope: Option<&str>, url: &str) -> Result<Zeroizing<String>, Unusable> {
    let file: File<'_> = serde_json::from_str(text)
        .map_err(|error| if error.is_eof() { Unusable::Cut } else { Unusable::NoServiceAccount })?;
    let (Some(TYPE), Some(email), Some(key)) = (file.kind, file.client_email, &file.private_key)
    else {
        return Err(Unusable::NoServiceAccount);
    };
    let is_known = |uri: &str| uri == url || TOKEN_URIS.contains(&uri);
    if !file.token_uri.as_deref().is_none_or(is_known) {
        return Err(Unusable::OtherTokenUri);
    }
    let parsed = parse(&key.0)?;
    let algorithm = parsed.algorithm(Some(SigningAlgorithm::Rs256), SigningAlgorithm::Rs256)?;
    let header = Header::new(algorithm, HEADER_TYPE, file.private_key_id.as_deref());
    let now = jwt::now();
    let claims = Claims {
        iss: email,
        sub: None,
        aud: url,
        scope,
        jti: None,
        iat: now,
        nbf: None,
        exp: now.saturating_add(LIFE.as_secs()),
    };
    let message = jwt::message(&header, &claims);
    Ok(jwt::signed(&message, &parsed.key.sign(algorithm, message.as_bytes())?))
}
