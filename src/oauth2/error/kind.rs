//! The kinds of errors of a token endpoint.

use http::StatusCode;

use crate::token::InvalidToken;

/// The kind of an [`EndpointError`](super::EndpointError).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointErrorKind {
    /// A [`Secret`](crate::Secret) could not be read, or is not a usable key, certificate or
    /// assertion, or a [`Signer`](super::super::Signer) failed: nothing was sent.
    Credential,
    /// The connection could not be made: the service has not seen the request.
    Unreachable,
    /// The exchange was interrupted, and the service may have seen the request.
    Interrupted,
    /// The exchange took longer than its
    /// [timeout](super::super::TokenEndpointBuilder::timeout).
    Timeout,
    /// The service answered with a redirect, which would replay the secret to another server.
    Redirected,
    /// The answer is larger than 1 MiB.
    TooLarge,
    /// The service refused: an error status, or an OAuth error (RFC 6749 §5.2). A few of them are
    /// transient (`slow_down`); see [`is_transient`](super::EndpointError::is_transient).
    Refused,
    /// The service is unavailable: it answered 5xx, 408 or 429, with any body.
    Unavailable,
    /// The answer cannot be read: empty, an HTML page, broken JSON, …
    Unreadable(&'static str),
    /// The answer has no access token under the expected name, or one that is not a text.
    MissingToken,
    /// The answer has an access token that no header can carry.
    InvalidToken(InvalidToken),
    /// The token is not a bearer token: its `token_type` requires a proof as well, or says that it
    /// is not an access token (RFC 6749 §7.1).
    NotBearer,
    /// The service refused the refresh token after an exchange with an unknown outcome. That
    /// exchange has probably spent it, and its successor is lost: a new grant is needed.
    RefreshTokenLost,
    /// The request's key cannot be used, or sets a parameter that is a secret of the endpoint:
    /// nothing was sent.
    InvalidKey,
    /// The request is on behalf of a subject, and the endpoint's grant does not take one: nothing
    /// was sent, because the token would be the program's own.
    SubjectNotTaken,
    /// The endpoint's grant takes a subject, and the request has none: nothing was sent.
    SubjectMissing,
    /// The token of the request's subject has expired: nothing was sent.
    SubjectExpired,
    /// The token is not of the
    /// [requested type](super::super::TokenExchange::requested_token_type).
    OtherTokenType,
    /// The issuer's metadata are another issuer's, name no usable endpoint, or support no client
    /// like this one. [`discover`](super::super::TokenEndpoint::discover) lists the requirements.
    /// No credential was sent.
    Metadata(&'static str),
    /// The client's certificate or its key cannot be used: nothing was sent.
    ClientCertificate(&'static str),
}

// ===== impl EndpointErrorKind =====

impl EndpointErrorKind {
    /// The kind of an answer with that status and without a token.
    pub(in crate::oauth2) fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Self::Unavailable,
            _ if status.is_server_error() => Self::Unavailable,
            _ => Self::Refused,
        }
    }
}
