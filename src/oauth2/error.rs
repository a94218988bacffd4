//! Errors of a token endpoint.

mod kind;
mod meaning;
mod text;

use std::{error::Error, fmt, time::Duration};

use http::StatusCode;

pub use self::kind::EndpointErrorKind;
use self::meaning::{Meaning, known};
use super::{redact::Redactor, transport::TransportError};
use crate::{
    error::{TokenError, find_in},
    secret::SecretError,
};

/// The longest `claims` that an error holds.
const MAX_CLAIMS: usize = 4 * 1024;

/// An error of a [`TokenEndpoint`](super::TokenEndpoint).
///
/// It is the cause of a [`TokenError`]. [`find_in`](Self::find_in) finds it there, and in any error
/// that a stack has wrapped around that. Texts of the service are reduced to printable ASCII of at
/// most 512 characters, with every configured secret and every token replaced by `***`. The error
/// never contains a body.
///
/// ```
/// use tower_bearer::{BoxError, oauth2::{EndpointError, EndpointErrorKind}};
///
/// /// Whether an operator must check the client's registration.
/// fn is_misconfigured(error: &BoxError) -> bool {
///     EndpointError::find_in(&**error).is_some_and(|error| {
///         *error.kind() == EndpointErrorKind::Refused && error.error() == Some("invalid_client")
///     })
/// }
/// # assert!(!is_misconfigured(&"another error".into()));
/// ```
#[derive(Clone)]
pub struct EndpointError {
    // Boxed, so that a `Result` with it stays small.
    inner: Box<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: EndpointErrorKind,
    /// Scheme, host, port and path of the endpoint.
    endpoint: String,
    /// Whether the error is about the issuer's metadata.
    is_metadata: bool,
    status: Option<StatusCode>,
    error: Option<String>,
    description: Option<String>,
    error_uri: Option<String>,
    claims: Option<String>,
    /// What the request asks for.
    asked: Asked,
    /// The meaning of the code, read before redaction, which might hit a part of it.
    meaning: Meaning,
    detail: Option<String>,
    retry_after: Option<Duration>,
    /// Whether the error is permanent, whatever its kind.
    settled: bool,
}

/// What a request asks for in addition to the endpoint's settings.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "keyed"), expect(dead_code, reason = "all requests are alike"))]
pub(super) enum Asked {
    Nothing,
    /// The settings of a key.
    Key,
    /// A token on behalf of the subject in a key.
    Subject,
}

// ===== impl EndpointError =====

impl EndpointError {
    pub(super) fn new(kind: EndpointErrorKind, endpoint: &str) -> Self {
        let inner = Inner {
            kind,
            endpoint: endpoint.to_owned(),
            is_metadata: false,
            status: None,
            error: None,
            description: None,
            error_uri: None,
            claims: None,
            asked: Asked::Nothing,
            meaning: Meaning::Other,
            detail: None,
            retry_after: None,
            settled: false,
        };
        Self { inner: Box::new(inner) }
    }

    /// The error for a secret that cannot be read.
    pub(super) fn credential(error: &SecretError, endpoint: &str) -> Self {
        Self::unusable(error, error.is_transient(), endpoint)
    }

    /// The error for a credential that cannot be used.
    pub(super) fn unusable(
        error: &(dyn Error + 'static),
        is_transient: bool,
        endpoint: &str,
    ) -> Self {
        let failure = Self::new(EndpointErrorKind::Credential, endpoint)
            .with_cause(error, &Redactor::default());
        if is_transient { failure } else { failure.settled() }
    }

    /// The error for an exchange that broke off.
    pub(super) fn broken(broken: TransportError, endpoint: &str, redactor: &Redactor) -> Self {
        let (kind, cause) = match broken {
            TransportError::Unsent(cause) => (EndpointErrorKind::Unreachable, cause),
            TransportError::Interrupted(cause) => (EndpointErrorKind::Interrupted, cause),
            TransportError::TooLarge => return Self::new(EndpointErrorKind::TooLarge, endpoint),
            TransportError::Certificate { problem, may_pass } => {
                let error = Self::new(EndpointErrorKind::ClientCertificate(problem), endpoint);
                return if may_pass { error } else { error.settled() };
            }
        };
        Self::new(kind, endpoint).with_cause(cause.as_ref(), redactor)
    }

    /// Changes the endpoint.
    pub(super) fn at(mut self, endpoint: &str) -> Self {
        endpoint.clone_into(&mut self.inner.endpoint);
        self
    }

    /// Marks the error as one about the issuer's metadata.
    pub(super) fn about_metadata(mut self) -> Self {
        self.inner.is_metadata = true;
        self
    }

    /// Adds the status and headers of the answer.
    pub(super) fn with_head(mut self, status: StatusCode, retry_after: Option<Duration>) -> Self {
        self.inner.status = Some(status);
        self.inner.retry_after = retry_after;
        self
    }

    /// Adds the service's error (RFC 6749 §5.2).
    pub(super) fn with_oauth(
        mut self,
        error: Option<&str>,
        description: Option<&str>,
        redactor: &Redactor,
    ) -> Self {
        self.inner.meaning = Meaning::of(error, description);
        self.inner.error = error.map(|text| redactor.clean(text));
        self.inner.description = description.map(|text| redactor.clean(text));
        self
    }

    /// Adds the `error_uri` and the `claims`.
    pub(super) fn with_more(
        mut self,
        error_uri: Option<&str>,
        claims: Option<&str>,
        redactor: &Redactor,
    ) -> Self {
        let is_printable = |text: &&str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let claims = claims.filter(is_printable).filter(|claims| claims.len() <= MAX_CLAIMS);
        self.inner.claims = claims.map(|claims| redactor.clean_to(MAX_CLAIMS, claims));
        self.inner.error_uri = error_uri.map(|uri| redactor.clean(uri));
        self
    }

    /// Adds what the request asks for.
    pub(super) fn when_asked(mut self, asked: Asked) -> Self {
        self.inner.asked = asked;
        self
    }

    /// Adds the text of a foreign error and its causes, redacted.
    pub(super) fn with_cause(mut self, cause: &(dyn Error + 'static), redactor: &Redactor) -> Self {
        self.inner.detail = Some(redactor.clean_error(cause));
        self
    }

    /// Adds a text of this crate.
    pub(super) fn with_detail(mut self, detail: &str) -> Self {
        self.inner.detail = Some(detail.to_owned());
        self
    }

    /// Turns the error into the refusal of a refresh token that an earlier exchange may have spent.
    pub(super) fn lost(mut self) -> Self {
        self.inner.kind = EndpointErrorKind::RefreshTokenLost;
        self
    }

    /// Marks the error as permanent.
    pub(super) fn settled(mut self) -> Self {
        self.inner.settled = true;
        self
    }

    /// Finds the endpoint's error in another error or its causes, as [`TokenError::find_in`] does.
    #[must_use]
    pub fn find_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        find_in(error)
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> &EndpointErrorKind {
        &self.inner.kind
    }

    /// Returns whether the error is about the issuer's metadata
    /// ([`discover`](super::TokenEndpoint::discover)), and no request went to the endpoint itself.
    #[must_use]
    pub fn is_about_metadata(&self) -> bool {
        self.inner.is_metadata
    }

    /// Returns the status of the answer, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.inner.status
    }

    /// Returns the OAuth `error` (RFC 6749 §5.2), or the service's equivalent.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.inner.error.as_deref()
    }

    /// Returns the `error_description`, or the service's equivalent.
    #[must_use]
    pub fn error_description(&self) -> Option<&str> {
        self.inner.description.as_deref()
    }

    /// Returns the `error_uri`: a page with more about the error (RFC 6749 §5.2).
    #[must_use]
    pub fn error_uri(&self) -> Option<&str> {
        self.inner.error_uri.as_deref()
    }

    /// Returns the `claims`: JSON that names what the user must prove, for instance a second
    /// factor.
    ///
    /// Pass them to the user's client, for instance in the `WWW-Authenticate` of your own 401
    /// (RFC 9470, Microsoft Entra's claims challenge). The client sends them when the user logs in
    /// again. They are as the service sent them, or the JSON of an object. Claims that are longer
    /// than 4 KiB or not printable ASCII are left out.
    #[must_use]
    pub fn claims(&self) -> Option<&str> {
        self.inner.claims.as_deref()
    }

    /// Returns whether only the user can resolve the error, by logging in again or consenting:
    /// `interaction_required`, `login_required`, `consent_required`, `insufficient_claims`, or any
    /// error with [`claims`](Self::claims).
    #[must_use]
    pub fn needs_interaction(&self) -> bool {
        self.inner.meaning == Meaning::Interaction || self.inner.claims.is_some()
    }

    /// Returns whether the failure is about the key of the request, or the subject in it, and
    /// leaves other keys unaffected.
    ///
    /// This holds for a permanent refusal, unless it is about the client (`invalid_client`,
    /// `unauthorized_client`, `unsupported_grant_type`, a 401 without details), about a refresh
    /// token or an assertion that all keys share (`invalid_grant` without a subject), or about the
    /// URL (a bare 404). It never holds for a [transient](Self::is_transient) failure.
    #[must_use]
    pub fn concerns_key_only(&self) -> bool {
        use EndpointErrorKind as Kind;
        match self.inner.kind {
            Kind::InvalidKey
            | Kind::SubjectNotTaken
            | Kind::SubjectMissing
            | Kind::SubjectExpired => true,
            Kind::Refused => !self.is_transient() && self.inner.refuses_the_key(),
            _ => false,
        }
    }

    /// Returns the `Retry-After` of the answer (RFC 9110 §10.2.3): at most a day.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// Returns whether a retry may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        !self.inner.settled && self.inner.may_pass()
    }

    /// Whether the service has judged the request and refused it, so that other credentials might
    /// help. A wrong secret may be a 401, 400 or 403, with any code.
    pub(super) fn blames_the_request(&self) -> bool {
        use EndpointErrorKind::{RefreshTokenLost, Refused};
        let refused = matches!(self.inner.kind, Refused | RefreshTokenLost);
        let may_be_mended = !self.is_transient() && !self.is_about_the_key();
        refused && may_be_mended && !self.is_ambiguous()
    }

    /// Whether the service may have refused the client, or the grant.
    pub(super) fn may_be_about_an_assertion(&self) -> bool {
        self.inner.is_one_of([StatusCode::UNAUTHORIZED])
            || matches!(self.inner.meaning, Meaning::Client | Meaning::InvalidGrant)
    }

    /// Whether, by the service's answer, no other credentials of the endpoint would help this key.
    pub(super) fn is_about_the_key(&self) -> bool {
        let is_certain = match self.inner.asked {
            Asked::Nothing => false,
            Asked::Key => self.inner.meaning != Meaning::Other,
            Asked::Subject => true,
        };
        is_certain && self.concerns_key_only()
    }

    /// The error as one of a few words, for a metric's label.
    pub(super) fn label(&self) -> &'static str {
        match self.inner.kind {
            EndpointErrorKind::ClientCertificate(_) => "client_certificate",
            EndpointErrorKind::Metadata(_) => "metadata",
            _ if self.inner.is_metadata => "metadata",
            EndpointErrorKind::Credential => "credential",
            EndpointErrorKind::Unreachable => "unreachable",
            EndpointErrorKind::Interrupted => "interrupted",
            EndpointErrorKind::Timeout => "timeout",
            EndpointErrorKind::Redirected => "redirected",
            EndpointErrorKind::TooLarge => "too_large",
            EndpointErrorKind::Unreadable(_) => "unreadable",
            EndpointErrorKind::MissingToken
            | EndpointErrorKind::InvalidToken(_)
            | EndpointErrorKind::NotBearer => "no_bearer_token",
            EndpointErrorKind::RefreshTokenLost => "refresh_token_lost",
            EndpointErrorKind::InvalidKey => "invalid_key",
            EndpointErrorKind::SubjectNotTaken => "subject_not_taken",
            EndpointErrorKind::SubjectMissing => "subject_missing",
            EndpointErrorKind::SubjectExpired => "subject_expired",
            EndpointErrorKind::OtherTokenType => "other_token_type",
            EndpointErrorKind::Refused => self.inner.known_code().unwrap_or("other"),
            EndpointErrorKind::Unavailable => self.inner.known_code().unwrap_or("unavailable"),
        }
    }

    pub(super) fn is_invalid_grant(&self) -> bool {
        self.inner.meaning == Meaning::InvalidGrant
    }

    /// Whether the service may have acted on the request in spite of the error.
    pub(super) fn is_ambiguous(&self) -> bool {
        match self.inner.kind {
            EndpointErrorKind::Credential
            | EndpointErrorKind::Unreachable
            | EndpointErrorKind::Redirected
            | EndpointErrorKind::RefreshTokenLost
            | EndpointErrorKind::InvalidKey
            | EndpointErrorKind::SubjectNotTaken
            | EndpointErrorKind::SubjectMissing
            | EndpointErrorKind::SubjectExpired
            | EndpointErrorKind::Metadata(_)
            | EndpointErrorKind::ClientCertificate(_)
            | EndpointErrorKind::Refused => false,
            EndpointErrorKind::Unavailable => {
                self.status().is_some_and(|status| status.is_server_error())
                    && self.error().is_none()
            }
            _ => true,
        }
    }
}

impl From<EndpointError> for TokenError {
    fn from(error: EndpointError) -> Self {
        let retry_after = error.retry_after();
        let concerns_key_only = error.concerns_key_only();
        let error =
            if error.is_transient() { Self::transient(error) } else { Self::permanent(error) };
        let error = if concerns_key_only { error.for_this_key() } else { error.for_all_keys() };
        match retry_after {
            Some(retry_after) => error.with_retry_after(retry_after),
            None => error,
        }
    }
}

impl Error for EndpointError {}

impl fmt::Debug for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointError")
            .field("kind", &self.inner.kind)
            .field("endpoint", &self.inner.endpoint)
            .field("about_metadata", &self.inner.is_metadata)
            .field("status", &self.inner.status)
            .field("error", &self.inner.error)
            .field("error_description", &self.inner.description)
            .field("error_uri", &self.inner.error_uri)
            .field("claims", &self.inner.claims)
            .field("detail", &self.inner.detail)
            .field("retry_after", &self.inner.retry_after)
            .field("transient", &self.is_transient())
            .finish()
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

// ===== impl Inner =====

/// Statuses of a wrong URL: no token service has judged the request.
const WRONG_URL: [StatusCode; 2] = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];

impl Inner {
    fn may_pass(&self) -> bool {
        match self.kind {
            EndpointErrorKind::Redirected
            | EndpointErrorKind::NotBearer
            | EndpointErrorKind::RefreshTokenLost
            | EndpointErrorKind::InvalidKey
            | EndpointErrorKind::SubjectNotTaken
            | EndpointErrorKind::SubjectMissing
            | EndpointErrorKind::SubjectExpired
            | EndpointErrorKind::OtherTokenType
            | EndpointErrorKind::Metadata(_) => false,
            EndpointErrorKind::TooLarge => !self.is_metadata,
            EndpointErrorKind::Refused => self.meaning == Meaning::Transient,
            _ => true,
        }
    }

    /// Whether a permanent refusal is about what the request asks for. A token exchange refuses a
    /// bad subject token with `invalid_request` (RFC 8693 §2.2.2).
    fn refuses_the_key(&self) -> bool {
        let is_unauthorized = self.is_one_of([StatusCode::UNAUTHORIZED]);
        self.is_judged()
            && match self.meaning {
                Meaning::Transient | Meaning::Client => false,
                Meaning::InvalidGrant => self.asked == Asked::Subject,
                Meaning::Interaction | Meaning::Asked => true,
                Meaning::Other => match self.asked {
                    Asked::Nothing => false,
                    Asked::Key => !is_unauthorized,
                    // A code specific to subjects' tokens, with any status.
                    Asked::Subject => !is_unauthorized || self.error.is_some(),
                },
            }
    }

    fn is_one_of<const N: usize>(&self, statuses: [StatusCode; N]) -> bool {
        self.status.is_some_and(|status| statuses.contains(&status))
    }

    /// The code, if an RFC defines it.
    fn known_code(&self) -> Option<&'static str> {
        self.error.as_deref().and_then(known)
    }

    /// Whether the service that refused has judged the request, as far as its answer shows.
    fn is_judged(&self) -> bool {
        self.known_code().is_some() || !self.is_one_of(WRONG_URL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: EndpointErrorKind, status: u16, error: Option<&str>) -> EndpointError {
        EndpointError::new(kind, "https://auth.example/token")
            .with_head(StatusCode::from_u16(status).unwrap(), None)
            .with_oauth(error, None, &Redactor::default())
    }

    #[test]
    fn only_a_permanent_and_certain_refusal_blames_the_request() {
        use EndpointErrorKind::{MissingToken, RefreshTokenLost, Refused, Unavailable};
        for (kind, status, error, blames) in [
            (Refused, 401, Some("invalid_client"), true),
            (Refused, 400, Some("invalid_grant"), true),
            (Refused, 403, None, true),
            (RefreshTokenLost, 400, Some("invalid_grant"), true),
            (Unavailable, 503, None, false),
            (Unavailable, 503, Some("invalid_client"), false),
            (Refused, 400, Some("slow_down"), false),
            (MissingToken, 200, None, false),
        ] {
            let error = of(kind, status, error);
            assert_eq!(error.blames_the_request(), blames, "{error:?}");
        }
        // No longer transient, but its outcome is still unknown.
        assert!(!of(Unavailable, 503, None).settled().blames_the_request());
    }

    #[test]
    fn a_failure_before_the_endpoint_has_its_own_label() {
        use EndpointErrorKind::{ClientCertificate, Metadata, Refused, Timeout};
        let new = |kind| EndpointError::new(kind, "https://auth.example/");
        for (error, label) in [
            (new(Timeout), "timeout"),
            (new(Timeout).about_metadata(), "metadata"),
            (new(Refused).about_metadata(), "metadata"),
            (new(Metadata("lacks a part")).about_metadata(), "metadata"),
            (new(ClientCertificate("has expired")), "client_certificate"),
            (new(ClientCertificate("has expired")).about_metadata(), "client_certificate"),
        ] {
            assert_eq!(error.label(), label, "{error}");
        }
    }
}
