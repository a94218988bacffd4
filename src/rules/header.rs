//! Which header carries a token, and how. No other module knows this.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{self, AUTHORIZATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE},
};

use crate::{
    challenge::is_tchar,
    token::{AccessToken, BEARER},
};

/// Headers that say where a message goes or where it ends: a token in one of them breaks the
/// request.
const RESERVED: [HeaderName; 8] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
];

/// Which request header carries the token, and which scheme precedes it.
///
/// The default is `Authorization: Bearer <token>` (RFC 6750 §2.1). To change it, give a header's
/// name or a `TokenHeader` to [`BearerAuthLayer::header`](crate::BearerAuthLayer::header):
///
/// | header | what it carries |
/// | --- | --- |
/// | `Authorization` | `Bearer <token>` |
/// | `Proxy-Authorization` | `Bearer <token>`; its rejection is a 407 (RFC 9110 §11.7) |
/// | any other | `<token>` alone |
/// | with [`with_scheme("Token")`](Self::with_scheme) | `Token <token>` |
/// | with [`without_scheme`](Self::without_scheme) | `<token>` alone |
///
/// ```
/// use tower_bearer::{AccessToken, BearerAuthLayer, TokenError, TokenHeader, from_fn};
///
/// # fn main() -> Result<(), tower_bearer::BoxError> {
/// let source = from_fn(|_| async { AccessToken::new("abc").map_err(TokenError::permanent) });
/// let layer = BearerAuthLayer::new(source).origin("https://api.example.com")?;
///
/// // `X-Api-Key: abc`
/// let api_key = layer.clone().header("X-Api-Key")?;
/// // `Authorization: Token abc`
/// let token = layer.header(TokenHeader::new("Authorization")?.with_scheme("Token")?)?;
/// # drop((api_key, token));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHeader {
    name: HeaderName,
    scheme: Option<Arc<str>>,
}

// ===== impl TokenHeader =====

impl TokenHeader {
    /// The header with this name and its usual scheme: `Bearer` for `Authorization` and
    /// `Proxy-Authorization`, none for any other.
    ///
    /// # Errors
    ///
    /// [`InvalidTokenHeader`] if the text is not a header name, or if the header says where a
    /// message goes or where it ends (`Host`, `Content-Length`).
    pub fn new<N>(name: N) -> Result<Self, InvalidTokenHeader>
    where
        N: TryInto<HeaderName>,
    {
        let name = name.try_into().map_err(|_| InvalidTokenHeader::Name)?;
        if RESERVED.contains(&name) {
            return Err(InvalidTokenHeader::Reserved(name));
        }
        let has_scheme = name == AUTHORIZATION || name == PROXY_AUTHORIZATION;
        Ok(Self { name, scheme: has_scheme.then(|| BEARER.into()) })
    }

    /// The same header with this scheme before the token: `Token`, `GenieKey`.
    ///
    /// # Errors
    ///
    /// [`InvalidTokenHeader`] if the scheme is not one word (RFC 9110 §11.1).
    pub fn with_scheme(self, scheme: impl AsRef<str>) -> Result<Self, InvalidTokenHeader> {
        let scheme = scheme.as_ref();
        if scheme.is_empty() || !scheme.bytes().all(is_tchar) {
            return Err(InvalidTokenHeader::Scheme);
        }
        Ok(Self { scheme: Some(scheme.into()), ..self })
    }

    /// The same header with the token alone.
    #[must_use]
    pub fn without_scheme(self) -> Self {
        Self { scheme: None, ..self }
    }

    /// The header's name.
    #[must_use]
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The scheme that precedes the token.
    #[must_use]
    pub fn scheme(&self) -> Option<&str> {
        self.scheme.as_deref()
    }

    /// The header's value for that token, marked as sensitive.
    pub(super) fn value(&self, token: &AccessToken) -> HeaderValue {
        if self.scheme() == Some(BEARER) {
            return token.header_value().clone();
        }
        token.header_copy(self.scheme())
    }

    /// The same value in memory of its own.
    pub(super) fn value_copy(&self, token: &AccessToken) -> HeaderValue {
        token.header_copy(self.scheme())
    }

    /// The status that rejects the token in this header, unless the user sets another rule.
    pub(super) fn rejection(&self) -> StatusCode {
        if self.is_for_a_proxy() {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED
        } else {
            StatusCode::UNAUTHORIZED
        }
    }

    /// The response header that says what is wrong with it.
    pub(super) fn challenges(&self) -> HeaderName {
        if self.is_for_a_proxy() { PROXY_AUTHENTICATE } else { WWW_AUTHENTICATE }
    }

    fn is_for_a_proxy(&self) -> bool {
        self.name == PROXY_AUTHORIZATION
    }
}

impl Default for TokenHeader {
    fn default() -> Self {
        Self { name: AUTHORIZATION, scheme: Some(BEARER.into()) }
    }
}

impl TryFrom<HeaderName> for TokenHeader {
    type Error = InvalidTokenHeader;

    fn try_from(name: HeaderName) -> Result<Self, InvalidTokenHeader> {
        Self::new(name)
    }
}

impl TryFrom<&str> for TokenHeader {
    type Error = InvalidTokenHeader;

    fn try_from(name: &str) -> Result<Self, InvalidTokenHeader> {
        Self::new(name)
    }
}

impl TryFrom<String> for TokenHeader {
    type Error = InvalidTokenHeader;

    fn try_from(name: String) -> Result<Self, InvalidTokenHeader> {
        Self::new(name)
    }
}

// ===== impl InvalidTokenHeader =====

/// A header that cannot carry a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTokenHeader {
    /// The text is not a header name.
    #[error("the token's header has an invalid name: write it like `X-Api-Key`")]
    Name,
    /// The header says where a message goes or where it ends.
    #[error("the header `{0}` cannot carry a token: HTTP itself uses it")]
    Reserved(HeaderName),
    /// The scheme is not one word.
    #[error("the scheme before the token is not one word: write it like `Token`, without a space")]
    Scheme,
}

impl From<std::convert::Infallible> for InvalidTokenHeader {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

// ===== On a request =====

/// Puts the token on the request. If the request brings its own credentials, this leaves it as it
/// was and returns `false`.
#[inline]
pub(super) fn put(headers: &mut HeaderMap, name: &HeaderName, token: &HeaderValue) -> bool {
    // One look-up does both: a request with credentials of its own is rare.
    let has_own = headers.append(name, token.clone());
    if has_own {
        take_back(headers, name);
    }
    !has_own
}

/// Removes the last value. The header keeps its place.
#[cold]
fn take_back(headers: &mut HeaderMap, name: &HeaderName) {
    let mut own: Vec<_> = headers.get_all(name).iter().cloned().collect();
    own.pop();
    let mut own = own.into_iter();
    if let Some(first) = own.next() {
        headers.insert(name, first);
    }
    for value in own {
        headers.append(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> AccessToken {
        AccessToken::new("abc").unwrap()
    }

    #[test]
    fn a_token_is_put_on_as_one_sensitive_header() {
        for header in [TokenHeader::default(), TokenHeader::new("X-Api-Key").unwrap()] {
            let mut headers = HeaderMap::new();
            headers.insert("x-other", HeaderValue::from_static("1"));
            let value = header.value(&token());
            assert!(put(&mut headers, header.name(), &value));
            let values: Vec<_> = headers.get_all(header.name()).iter().collect();
            assert_eq!(values, [value]);
            assert!(values[0].is_sensitive());
            assert_eq!(headers.len(), 2);
        }
    }

    #[test]
    fn credentials_that_a_request_brings_stay_as_they_were_with_all_that_is_around_them() {
        let own = [&["Basic x"][..], &[""], &["Basic x", "Digest y"], &["c", "b", "a", "b"]];
        for (own, name) in own.iter().flat_map(|own| [(own, "authorization"), (own, "x-key")]) {
            let header = TokenHeader::new(name).unwrap();
            let mut headers = HeaderMap::new();
            headers.append("x-before", HeaderValue::from_static("1"));
            for value in *own {
                headers.append(header.name(), HeaderValue::from_str(value).unwrap());
            }
            headers.append("x-after", HeaderValue::from_static("2"));
            headers.append("x-before", HeaderValue::from_static("3"));
            let shown = |headers: &HeaderMap| -> Vec<(HeaderName, HeaderValue)> {
                headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
            };
            let before = shown(&headers);
            assert!(!put(&mut headers, header.name(), &header.value(&token())));
            assert_eq!(shown(&headers), before, "{name}: {own:?}");
        }
    }

    fn carried(header: &TokenHeader) -> [HeaderValue; 2] {
        [header.value(&token()), header.value_copy(&token())]
    }

    #[test]
    fn a_header_carries_its_usual_scheme_another_or_none() {
        let of = |name: &str| TokenHeader::new(name).unwrap();
        for (header, expected) in [
            (TokenHeader::default(), "Bearer abc"),
            (of("authorization"), "Bearer abc"),
            (of("Proxy-Authorization"), "Bearer abc"),
            (of("X-Api-Key"), "abc"),
            (of("X-Api-Key").with_scheme("Token").unwrap(), "Token abc"),
            (of("Authorization").with_scheme("bearer").unwrap(), "bearer abc"),
            (of("Authorization").without_scheme(), "abc"),
        ] {
            for value in carried(&header) {
                assert_eq!(value, expected, "{header:?}");
                assert!(value.is_sensitive(), "{header:?}");
            }
        }
    }

    #[test]
    fn a_header_that_http_itself_uses_carries_no_token() {
        for name in ["Host", "content-length", "Transfer-Encoding", "connection"] {
            let error = TokenHeader::new(name).unwrap_err();
            assert!(matches!(error, InvalidTokenHeader::Reserved(_)), "{name}: {error}");
        }
    }

    #[test]
    fn a_name_or_a_scheme_that_no_header_can_have_is_an_error() {
        for name in ["", "X Api Key", "X-Api-Key:", "x\r\ny", "é"] {
            assert_eq!(TokenHeader::new(name), Err(InvalidTokenHeader::Name), "{name:?}");
        }
        for scheme in ["", " ", "Token ", "a b", "a\r\n", "é"] {
            let header = TokenHeader::default().with_scheme(scheme);
            assert_eq!(header, Err(InvalidTokenHeader::Scheme), "{scheme:?}");
        }
    }
}
