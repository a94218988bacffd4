//! What a token endpoint said instead of a token.

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

/// The longest `claims` that are handed on.
const MAX_CLAIMS: usize = 4 * 1024;

/// Why a [`TokenEndpoint`](super::TokenEndpoint) brought no token.
///
/// It is the cause of a [`TokenError`]; [`find_in`](Self::find_in) finds it there, and in whatever
/// a stack has wrapped around that. Whatever the service said is printable ASCII, 512 characters at
/// most, with every configured secret and every token replaced by `***`. A body is never part of it.
///
/// ```
/// use tower_bearer::{BoxError, oauth2::{EndpointError, EndpointErrorKind}};
///
/// /// Whether somebody has to look at the client's registration.
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
    /// Whether it is about the metadata that say where the endpoint is.
    is_metadata: bool,
    status: Option<StatusCode>,
    error: Option<String>,
    description: Option<String>,
    error_uri: Option<String>,
    claims: Option<String>,
    /// What the request asked for.
    asked: Asked,
    /// What the code means: read before secrets are hidden, which might hit a part of it.
    meaning: Meaning,
    detail: Option<String>,
    retry_after: Option<Duration>,
    /// Whether it is known not to pass, whatever its kind.
    settled: bool,
}

/// What a request asked for beside the endpoint's settings.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "keyed"), expect(dead_code, reason = "all requests are alike"))]
pub(super) enum Asked {
    Nothing,
    /// What a key says.
    Key,
    /// To act on behalf of the subject in a key.
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

    /// A secret that cannot be read.
    pub(super) fn credential(error: &SecretError, endpoint: &str) -> Self {
        Self::unusable(error, error.is_transient(), endpoint)
    }

    /// A credential that cannot be used.
    pub(super) fn unusable(
        error: &(dyn Error + 'static),
        is_transient: bool,
        endpoint: &str,
    ) -> Self {
        let failure = Self::new(EndpointErrorKind::Credential, endpoint)
            .with_cause(error, &Redactor::default());
        if is_transient { failure } else { failure.settled() }
    }

    /// An exchange that broke off.
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

    /// The same about another endpoint.
    pub(super) fn at(mut self, endpoint: &str) -> Self {
        endpoint.clone_into(&mut self.inner.endpoint);
        self
    }

    /// The same about the metadata that say where the endpoint is.
    pub(super) fn about_metadata(mut self) -> Self {
        self.inner.is_metadata = true;
        self
    }

    /// Adds what came as the answer's head.
    pub(super) fn with_head(mut self, status: StatusCode, retry_after: Option<Duration>) -> Self {
        self.inner.status = Some(status);
        self.inner.retry_after = retry_after;
        self
    }

    /// Adds what the service said (RFC 6749 §5.2).
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

    /// Adds where there is more to read, and what the user has to prove.
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

    /// Adds what the request asked for.
    pub(super) fn when_asked(mut self, asked: Asked) -> Self {
        self.inner.asked = asked;
        self
    }

    /// Adds what somebody else's error says, its causes included.
    pub(super) fn with_cause(mut self, cause: &(dyn Error + 'static), redactor: &Redactor) -> Self {
        let mut text = cause.to_string();
        let mut next = cause.source();
        while let Some(cause) = next {
            text = format!("{text}: {cause}");
            next = cause.source();
        }
        self.inner.detail = Some(redactor.clean(&text));
        self
    }

    /// Adds what is said in words of our own.
    pub(super) fn with_detail(mut self, detail: &str) -> Self {
        self.inner.detail = Some(detail.to_owned());
        self
    }

    /// The refusal of a refresh token that an earlier exchange may have spent.
    pub(super) fn lost(mut self) -> Self {
        self.inner.kind = EndpointErrorKind::RefreshTokenLost;
        self
    }

    /// The same as a failure that is not to be repeated.
    pub(super) fn settled(mut self) -> Self {
        self.inner.settled = true;
        self
    }

    /// The endpoint's error in another error or in its causes, as [`TokenError::find_in`].
    #[must_use]
    pub fn find_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        find_in(error)
    }

    /// What went wrong, in kind.
    #[must_use]
    pub fn kind(&self) -> &EndpointErrorKind {
        &self.inner.kind
    }

    /// Whether it is about the metadata that say where the token endpoint is
    /// ([`discover`](super::TokenEndpoint::discover)), and the endpoint itself was not asked.
    #[must_use]
    pub fn is_about_metadata(&self) -> bool {
        self.inner.is_metadata
    }

    /// The status of the answer, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.inner.status
    }

    /// The OAuth `error` (RFC 6749 §5.2), or what the service has in its place.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.inner.error.as_deref()
    }

    /// The `error_description`, or what the service has in its place.
    #[must_use]
    pub fn error_description(&self) -> Option<&str> {
        self.inner.description.as_deref()
    }

    /// The `error_uri`: a page with more about the error (RFC 6749 §5.2).
    #[must_use]
    pub fn error_uri(&self) -> Option<&str> {
        self.inner.error_uri.as_deref()
    }

    /// The `claims`: JSON that says what the user has to prove, for instance a second factor.
    ///
    /// Hand them to the client that the user is at, for instance in the `WWW-Authenticate` of
    /// your own 401 (RFC 9470, Microsoft Entra's claims challenge): it sends them along when the
    /// user logs in again. They are as the service sent them; if it sent an object, that one's
    /// JSON. They are printable ASCII of 4 KiB at most, or there are none.
    #[must_use]
    pub fn claims(&self) -> Option<&str> {
        self.inner.claims.as_deref()
    }

    /// Whether only the user can do something about it, by logging in again or consenting:
    /// `interaction_required`, `login_required`, `consent_required`, `insufficient_claims`, or
    /// whatever comes with [`claims`](Self::claims).
    #[must_use]
    pub fn needs_interaction(&self) -> bool {
        self.inner.meaning == Meaning::Interaction || self.inner.claims.is_some()
    }

    /// Whether the failure is about the key of the request or the subject in it, and says
    /// nothing about what other keys would get.
    ///
    /// A permanent refusal is, unless it is about the client (`invalid_client`,
    /// `unauthorized_client`, `unsupported_grant_type`, a 401 that says no more), about a refresh
    /// token or an assertion that all keys share (`invalid_grant` without a subject), or about the
    /// URL (a bare 404). A failure that [may pass](Self::is_transient) never is.
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

    /// How long the service asked to be left alone (RFC 9110 §10.2.3): at most a day.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// Whether the failure may pass by itself.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        !self.inner.settled && self.inner.may_pass()
    }

    /// Whether the service judged the request and found it wanting, which other credentials
    /// might mend. A wrong secret is 401, 400 or 403, with any code.
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

    /// Whether the service said, as far as can be seen, that no other credentials of the
    /// endpoint would help this key.
    pub(super) fn is_about_the_key(&self) -> bool {
        let is_certain = match self.inner.asked {
            Asked::Nothing => false,
            Asked::Key => self.inner.meaning != Meaning::Other,
            Asked::Subject => true,
        };
        is_certain && self.concerns_key_only()
    }

    /// What went wrong as one of few words, for a label.
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

    /// Whether the service may have acted on the request all the same.
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

/// Where the URL is wrong, there is nobody who judges the request.
const NOBODY: [StatusCode; 2] = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];

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
            EndpointErrorKind::Refused => self.meaning == Meaning::Passing,
            _ => true,
        }
    }

    /// Of a permanent refusal, whether it is about what was asked for. At a token exchange
    /// `invalid_request` is how a bad subject token is refused (RFC 8693 §2.2.2).
    fn refuses_the_key(&self) -> bool {
        let is_unauthorized = self.is_one_of([StatusCode::UNAUTHORIZED]);
        self.is_judged()
            && match self.meaning {
                Meaning::Passing | Meaning::Client => false,
                Meaning::InvalidGrant => self.asked == Asked::Subject,
                Meaning::Interaction | Meaning::Asked => true,
                Meaning::Other => match self.asked {
                    Asked::Nothing => false,
                    Asked::Key => !is_unauthorized,
                    // A code of its own for a subject's token, in whatever answer.
                    Asked::Subject => !is_unauthorized || self.error.is_some(),
                },
            }
    }

    fn is_one_of<const N: usize>(&self, statuses: [StatusCode; N]) -> bool {
        self.status.is_some_and(|status| statuses.contains(&status))
    }

    /// The code, if it is one of an RFC's.
    fn known_code(&self) -> Option<&'static str> {
        self.error.as_deref().and_then(known)
    }

    /// Of a refusal, whether the service judged the request, as far as can be seen.
    fn is_judged(&self) -> bool {
        self.known_code().is_some() || !self.is_one_of(NOBODY)
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
    fn only_a_refusal_that_stays_and_is_certain_blames_the_request() {
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
        // It is transient no more, but what became of it nobody knows.
        assert!(!of(Unavailable, 503, None).settled().blames_the_request());
    }

    #[test]
    fn a_failure_before_the_endpoint_is_counted_as_that_whatever_its_kind() {
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
