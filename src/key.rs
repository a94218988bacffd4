//! What a token is for, and on whose behalf.

mod subject;

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
    time::SystemTime,
};

use self::subject::SubjectId;
pub use self::subject::{NoSubject, Subject};

/// The most bytes that all texts of a key may have together.
const MAX_BYTES: usize = 8 * 1024;
/// The most resources, and the most parameters, of a key.
const MAX_ENTRIES: usize = 32;

/// Parameters that say who the client is, which grant it uses or what it redeems: a key never sets
/// them. Nor does it set those that have a method of their own.
const RESERVED: [&str; 20] = [
    "actor_token",
    "actor_token_type",
    "assertion",
    "audience",
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "code",
    "code_verifier",
    "grant_type",
    "password",
    "refresh_token",
    "requested_token_type",
    "requested_token_use",
    "resource",
    "scope",
    "subject_token",
    "subject_token_type",
    "username",
];

/// What a token is for: a scope, resources, an audience, parameters; and on whose behalf.
///
/// Put it into a request's extensions. A [`BearerAuthLayer`](crate::BearerAuthLayer) over a
/// [`KeyedTokenCache`](crate::KeyedTokenCache) then sends the request with the token of that key,
/// and the [`TokenSource`](crate::TokenSource) finds the key in
/// [`TokenRequest::key`](crate::TokenRequest::key). Requests whose keys differ in anything never
/// share a token.
///
/// ```
/// use tower_bearer::TokenKey;
///
/// let request = http::Request::get("https://api.example.com/v1/orders")
///     .extension(TokenKey::new().scope("orders:read"))
///     .body(());
/// # request.unwrap();
/// ```
///
/// # Bounds
///
/// The texts of a key have at most 8 KiB together. A key has at most 32 resources and 32
/// parameters. The layer refuses a request whose key exceeds these bounds or has an invalid text,
/// and [`check`](Self::check) says why.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct TokenKey {
    // Shared, so that one key can go into many requests at the price of a reference count.
    inner: Arc<Inner>,
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Inner {
    purpose: Purpose,
    subject: Option<Subject>,
    invalid: Option<InvalidTokenKey>,
}

/// What a token is for, whatever subject it is on behalf of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Purpose {
    scope: Option<Box<str>>,
    audience: Option<Box<str>>,
    resources: Vec<Box<str>>,
    /// Sorted by name.
    params: Vec<(Box<str>, Box<str>)>,
}

/// Why the cache fetches no token for a key.
#[derive(Clone, Debug)]
pub(crate) enum Unusable {
    Invalid(InvalidTokenKey),
    SubjectExpired,
}

/// A key as a map keeps it: without the subject's token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct KeyId {
    purpose: Purpose,
    subject: Option<SubjectId>,
}

/// A key to look up in a map by its id, without making that id.
#[derive(Clone, Copy)]
pub(crate) struct LookUp<'a>(&'a TokenKey);

// ===== impl TokenKey =====

impl TokenKey {
    /// The key of a token for nothing in particular: the source asks with its own settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the scope to ask for: names with spaces between them (RFC 6749 §3.3). It replaces the
    /// token endpoint's own scope.
    #[must_use]
    pub fn scope(self, scope: impl Into<String>) -> Self {
        let scope = scope.into();
        let is_valid = !scope.is_empty() && scope.bytes().all(is_scope_char);
        self.with(is_valid.then_some(()).ok_or(InvalidTokenKey::Scope), |purpose| {
            purpose.scope = Some(scope.into());
        })
    }

    /// Sets the audience to ask for (RFC 8693 §2.1). It replaces the token endpoint's own audience.
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        let audience = audience.into();
        let is_valid = is_text(&audience);
        self.with(is_valid.then_some(()).ok_or(InvalidTokenKey::Audience), |purpose| {
            purpose.audience = Some(audience.into());
        })
    }

    /// Adds a resource to ask for: an absolute URI without a fragment (RFC 8707 §2). Call it once
    /// for each resource. They replace the token endpoint's own resources.
    #[must_use]
    pub fn resource(self, resource: impl Into<String>) -> Self {
        let resource = resource.into();
        let is_valid = is_absolute_uri(&resource);
        self.with(is_valid.then_some(()).ok_or(InvalidTokenKey::Resource), |purpose| {
            purpose.resources.push(resource.into());
        })
    }

    /// Adds a parameter to the token request. It replaces the token endpoint's own parameter of
    /// that name. If you set a name twice, the last value counts.
    ///
    /// A key cannot set the grant, the client, its credentials or what the grant redeems
    /// (`grant_type`, `client_id`, `assertion`, …): these names are errors.
    #[must_use]
    pub fn param(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        let is_valid = is_text(&name) && !RESERVED.contains(&name.as_str());
        let error = || InvalidTokenKey::Param(shown(&name));
        let checked = is_valid.then_some(()).ok_or_else(error);
        self.with(checked, |purpose| purpose.set_param(name, value))
    }

    /// Asks for a token on behalf of this subject.
    #[must_use]
    pub fn on_behalf_of(mut self, subject: Subject) -> Self {
        Arc::make_mut(&mut self.inner).subject = Some(subject);
        self
    }

    /// Reports what makes the key unusable now, instead of when a request uses it.
    ///
    /// ```
    /// use tower_bearer::{InvalidTokenKey, TokenKey};
    ///
    /// # fn main() -> Result<(), InvalidTokenKey> {
    /// let key = TokenKey::new().scope("orders:read").check()?;
    ///
    /// let error = key.param("grant_type", "password").check().unwrap_err();
    /// assert_eq!(error, InvalidTokenKey::Param("grant_type".into()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidTokenKey`] names the first part that is invalid.
    pub fn check(self) -> Result<Self, InvalidTokenKey> {
        match &self.inner.invalid {
            Some(error) => Err(error.clone()),
            None => Ok(self),
        }
    }

    /// The scope that was set.
    #[must_use]
    pub fn requested_scope(&self) -> Option<&str> {
        self.inner.purpose.scope.as_deref()
    }

    /// The audience that was set.
    #[must_use]
    pub fn requested_audience(&self) -> Option<&str> {
        self.inner.purpose.audience.as_deref()
    }

    /// The resources, in the order in which they were added.
    pub fn requested_resources(&self) -> impl Iterator<Item = &str> {
        self.inner.purpose.resources.iter().map(|resource| &**resource)
    }

    /// The parameters, in the order of their names.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        self.inner.purpose.params.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The subject on whose behalf the token is.
    #[must_use]
    pub fn subject(&self) -> Option<&Subject> {
        self.inner.subject.as_ref()
    }

    /// Whether the cache may fetch a token for this key at the time `now`.
    pub(crate) fn usable(&self, now: SystemTime) -> Result<(), Unusable> {
        if let Some(error) = &self.inner.invalid {
            return Err(Unusable::Invalid(error.clone()));
        }
        match &self.inner.subject {
            Some(subject) if subject.is_expired(now) => Err(Unusable::SubjectExpired),
            _ => Ok(()),
        }
    }

    /// Whether its subject expires later than that of an equal key.
    pub(crate) fn outlives(&self, other: &Self) -> bool {
        let expiry = |key: &Self| key.subject().map(Subject::expiry);
        match (expiry(self), expiry(other)) {
            (Some(None), Some(Some(_))) => true,
            (Some(Some(this)), Some(Some(other))) => this > other,
            _ => false,
        }
    }

    /// The key without the subject's token.
    pub(crate) fn id(&self) -> KeyId {
        KeyId {
            purpose: self.inner.purpose.clone(),
            subject: self.inner.subject.as_ref().map(Subject::id),
        }
    }

    pub(crate) fn look_up(&self) -> LookUp<'_> {
        LookUp(self)
    }

    /// Changes the purpose, unless the key is unusable: an unusable key does not grow.
    fn with(
        mut self,
        checked: Result<(), InvalidTokenKey>,
        change: impl FnOnce(&mut Purpose),
    ) -> Self {
        if self.inner.invalid.is_some() {
            return self;
        }
        let inner = Arc::make_mut(&mut self.inner);
        match checked {
            Ok(()) => change(&mut inner.purpose),
            Err(error) => inner.invalid = Some(error),
        }
        if inner.purpose.is_too_large() {
            inner.purpose = Purpose::default();
            inner.invalid = Some(InvalidTokenKey::TooLarge);
        }
        self
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey")
            .field("scope", &self.inner.purpose.scope)
            .field("audience", &self.inner.purpose.audience)
            .field("resources", &self.inner.purpose.resources)
            .field("params", &self.inner.purpose.params)
            .field("subject", &self.inner.subject)
            .field("invalid", &self.inner.invalid)
            .finish()
    }
}

// ===== impl KeyId =====

impl KeyId {
    /// Whether the key is on behalf of this subject.
    pub(crate) fn is_of(&self, subject: &Subject) -> bool {
        self.subject == Some(subject.id())
    }
}

// ===== impl LookUp =====

impl LookUp<'_> {
    /// Whether this is the id of the key that is looked up. An unusable key has lost what tells it
    /// from others, so it matches no id.
    pub(crate) fn is(self, id: &KeyId) -> bool {
        self.0.inner.invalid.is_none()
            && id.purpose == self.0.inner.purpose
            && id.subject == self.0.inner.subject.as_ref().map(Subject::id)
    }
}

/// Hashes as [`KeyId`] does.
impl Hash for LookUp<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.inner.purpose.hash(state);
        self.0.inner.subject.as_ref().map(Subject::id).hash(state);
    }
}

// ===== impl Purpose =====

impl Purpose {
    fn set_param(&mut self, name: String, value: String) {
        let at = self.params.binary_search_by(|(known, _)| (**known).cmp(&name));
        let entry = (name.into(), value.into());
        match at {
            Ok(at) => drop(self.params.splice(at..=at, [entry])),
            Err(at) => self.params.insert(at, entry),
        }
    }

    fn is_too_large(&self) -> bool {
        let params = self.params.iter().flat_map(|(name, value)| [name, value]);
        let texts = self.scope.iter().chain(&self.audience).chain(&self.resources).chain(params);
        self.resources.len() > MAX_ENTRIES
            || self.params.len() > MAX_ENTRIES
            || texts.map(|text| text.len()).sum::<usize>() > MAX_BYTES
    }
}

/// RFC 6749 §3.3, and the spaces between the names.
fn is_scope_char(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// Whether the text is not empty and has no control character.
fn is_text(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

/// A scheme, a colon and more, all in printable ASCII (RFC 3986 §3), without a fragment.
fn is_absolute_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme
        && !rest.is_empty()
        && rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// The part of a name that an error shows.
fn shown(name: &str) -> Box<str> {
    name.chars().filter(|it| !it.is_control()).take(64).collect::<String>().into()
}

// ===== impl InvalidTokenKey =====

/// What makes a [`TokenKey`] unusable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTokenKey {
    /// The scope is empty, or has a character that no scope may have (RFC 6749 §3.3).
    #[error("the token key's `scope` is empty or has a character that no scope may have")]
    Scope,
    /// The audience is empty, or has a control character.
    #[error("the token key's `audience` is empty or has a control character")]
    Audience,
    /// A resource is not an absolute URI, or has a fragment (RFC 8707 §2).
    #[error(
        "a `resource` of the token key is not an absolute URI without a fragment (RFC 8707 §2)"
    )]
    Resource,
    /// A parameter has no name, or a name that a key may not set.
    #[error("the token key may not set the parameter `{0}`: set it on the token endpoint")]
    Param(Box<str>),
    /// The key exceeds the [bounds](TokenKey#bounds).
    #[error("the token key has more than 8 KiB, 32 resources or 32 parameters")]
    TooLarge,
}

#[cfg(test)]
mod tests;
