//! What can go wrong at a token endpoint, in kind.

use http::StatusCode;

use crate::token::InvalidToken;

/// What went wrong, in kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointErrorKind {
    /// A [`Secret`](crate::Secret) could not be read, or is no key, no certificate or no assertion
    /// that can be used, or a [`Signer`](super::super::Signer) failed: nothing was sent.
    Credential,
    /// No connection was made: the service has not seen the request.
    Unreachable,
    /// The exchange broke off, and the service may have seen the request.
    Interrupted,
    /// The exchange took longer than its
    /// [timeout](super::super::TokenEndpointBuilder::timeout).
    Timeout,
    /// The service answered with a redirect, which would replay the secret to another server.
    Redirected,
    /// The answer has more than 1 MiB.
    TooLarge,
    /// The service gave no token: an error status, or an OAuth error (RFC 6749 §5.2). A few of the
    /// errors pass by themselves (`slow_down`); ask [`is_transient`](super::EndpointError::is_transient).
    Refused,
    /// The service can judge no request at the moment: it answered 5xx, 408 or 429, whatever it
    /// said beside that.
    Unavailable,
    /// The answer is no answer: empty, an HTML page, broken JSON, …
    Unreadable(&'static str),
    /// The answer has no access token under the name that is looked for, or one that is not a text.
    MissingToken,
    /// The answer has an access token that no header may carry.
    InvalidToken(InvalidToken),
    /// The token is none that is simply presented: its `token_type` wants a proof as well, or
    /// says that it is no access token (RFC 6749 §7.1).
    NotBearer,
    /// The service no longer knows the refresh token, after an exchange of it whose outcome
    /// never became known: it was probably spent then, and its successor is lost. Only a new
    /// grant helps.
    RefreshTokenLost,
    /// The request's key is one that cannot be used, or sets a parameter that is a secret of the
    /// endpoint: nothing was sent.
    InvalidKey,
    /// The request is on behalf of a subject, and the endpoint's grant takes none: nothing was
    /// sent, because the token would be the program's own.
    SubjectNotTaken,
    /// The endpoint's grant takes a subject, and the request has none: nothing was sent.
    SubjectMissing,
    /// The token of the request's subject has expired: nothing was sent.
    SubjectExpired,
    /// The token is of another type than
    /// [was asked for](super::super::TokenExchange::requested_token_type).
    OtherTokenType,
    /// The issuer's metadata are another issuer's, name no endpoint that can be used, or take no
    /// client like this one: [`discover`](super::super::TokenEndpoint::discover) says what they have to
    /// be. No credential was sent.
    Metadata(&'static str),
    /// The client's certificate or its key cannot be used: nothing was sent.
    ClientCertificate(&'static str),
}

// ===== impl EndpointErrorKind =====

impl EndpointErrorKind {
    /// What an answer with that status is that brings no token.
    pub(in crate::oauth2) fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Self::Unavailable,
            _ if status.is_server_error() => Self::Unavailable,
            _ => Self::Refused,
        }
    }
}
