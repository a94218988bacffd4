//! The relevant members of an answer, under all names that services use.

mod nested;

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use self::nested::Nested;
use super::{Kind, form};
use crate::json::{self, Json};

/// The member with a list of errors in place of a single one.
const ERROR_LIST: &str = "errors";

/// A member of the answer whose name you can set.
///
/// # A lifetime of zero
///
/// Some services (Mailchimp) send `"expires_in": 0` for a token that does not expire. RFC 6749 §5.1
/// gives zero no such meaning, so you need two settings. Set a name for the lifetime that the
/// service never sends. The policy's
/// [`default_lifetime`](crate::RefreshPolicyBuilder::default_lifetime) then applies: by default, a
/// token without a lifetime lives until an API rejects it.
///
/// ```
/// # use http::{Request, Response};
/// # use std::convert::Infallible;
/// use std::time::Duration;
/// use tower_bearer::{RefreshPolicy, TokenCache, oauth2::{Field, TokenEndpoint}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_bearer::BoxError> {
/// # let service = tower::service_fn(async |_: Request<http_body_util::Full<bytes::Bytes>>| {
/// #     let answer = r#"{"access_token":"abc","expires_in":0}"#;
/// #     Ok::<_, Infallible>(Response::new(answer.to_owned()))
/// # });
/// let endpoint = TokenEndpoint::builder("https://login.example.com/oauth2/token")
///     .client_id("my-app")
///     .client_secret("s3cr3t")
///     .field(Field::ExpiresIn, "-")
/// #   .transport(service)
///     .build()?;
/// let day = Duration::from_secs(24 * 60 * 60);
/// let policy = RefreshPolicy::builder().default_lifetime(day).build()?; // or leave it out
/// let cache = TokenCache::with_policy(endpoint, policy);
/// assert_eq!(cache.get().await?.lifetime(), None);
/// assert!(cache.current().is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Field {
    /// The token: `access_token`.
    AccessToken,
    /// The type of the token: `token_type`.
    TokenType,
    /// The lifetime in seconds: `expires_in`. Zero means that the token has expired
    /// ([unless you set otherwise](#a-lifetime-of-zero)).
    ExpiresIn,
    /// The expiry in seconds since 1970: `expiration`, else `expires_on`, else `expires_at`. Zero,
    /// or a date before OAuth 2.0 existed, counts as none, because some services send that.
    ExpiresAt,
    /// The seconds until the token should be refreshed: `refresh_in`, which Microsoft's services
    /// send.
    RefreshIn,
    /// The time at which the token should be refreshed, in seconds since 1970: `refresh_on`. Used
    /// if there is no `refresh_in`.
    RefreshOn,
    /// The refresh token: `refresh_token`.
    RefreshToken,
    /// The granted scope: `scope`, a text or a list of names.
    Scope,
    /// The code of an error: `error`, else `errorCode`, as a text, an object with a code and a
    /// message, or a list of such. Else the first of a list `errors`.
    Error,
    /// The description of an error: `error_description`, else `errorMessage`, else `errorSummary`,
    /// else the message beside the code.
    ErrorDescription,
    /// A page with more about the error: `error_uri`.
    ErrorUri,
    /// The claims that the user must prove: `claims`, a text, or an object, which becomes JSON
    /// text.
    Claims,
    /// The type of the token of a token exchange: `issued_token_type`.
    IssuedTokenType,
}

/// The configured names. Any other field has its usual ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct FieldNames {
    configured: Vec<(Field, String)>,
}

/// The values found, with the rank of their names: the lowest takes precedence.
#[derive(Default)]
pub(super) struct Fields {
    found: Vec<(Field, usize, Scalar)>,
    /// Nested values of an error, and of a list of errors.
    nested: [Nested; 2],
    has_error_list: bool,
}

/// One value.
pub(super) enum Scalar {
    Text(Zeroizing<String>),
    Number(f64),
    /// `null`.
    Nothing,
    /// `false`: not an error, but not a number either.
    False,
    /// `true`, an array or an object.
    Other,
}

// ===== impl Field =====

impl Field {
    const ALL: [Self; 13] = [
        Self::AccessToken,
        Self::TokenType,
        Self::ExpiresIn,
        Self::ExpiresAt,
        Self::RefreshIn,
        Self::RefreshOn,
        Self::RefreshToken,
        Self::Scope,
        Self::Error,
        Self::ErrorDescription,
        Self::ErrorUri,
        Self::Claims,
        Self::IssuedTokenType,
    ];

    fn usual_names(self) -> &'static [&'static str] {
        match self {
            Self::AccessToken => &["access_token"],
            Self::TokenType => &["token_type"],
            Self::ExpiresIn => &["expires_in"],
            Self::ExpiresAt => &["expiration", "expires_on", "expires_at"],
            Self::RefreshIn => &["refresh_in"],
            Self::RefreshOn => &["refresh_on"],
            Self::RefreshToken => &["refresh_token"],
            Self::Scope => &["scope"],
            Self::Error => &["error", "errorCode"],
            Self::ErrorDescription => &["error_description", "errorMessage", "errorSummary"],
            Self::ErrorUri => &["error_uri"],
            Self::Claims => &["claims"],
            Self::IssuedTokenType => &["issued_token_type"],
        }
    }
}

// ===== impl FieldNames =====

impl FieldNames {
    /// Looks for a field under that name only.
    pub(crate) fn set(&mut self, field: Field, name: String) {
        self.configured.retain(|(configured, _)| *configured != field);
        self.configured.push((field, name));
    }

    pub(crate) fn configured(&self) -> impl Iterator<Item = &str> {
        self.configured.iter().map(|(_, name)| name.as_str())
    }

    /// The field with that name, and the rank of the name. A configured name may be the usual name
    /// of another field.
    fn find(&self, name: &str) -> Option<(Field, usize)> {
        let configured = self.configured.iter().find(|(_, configured)| configured == name);
        if let Some((field, _)) = configured {
            return Some((*field, 0));
        }
        let is_usual = |field: &Field| !self.configured.iter().any(|(renamed, _)| renamed == field);
        Field::ALL.into_iter().filter(is_usual).find_map(|field| {
            let rank = field.usual_names().iter().position(|usual| *usual == name);
            Some((field, rank?))
        })
    }

    fn is_error_list(&self, name: &str) -> bool {
        let is_renamed = self.configured.iter().any(|(field, _)| *field == Field::Error);
        !is_renamed && name == ERROR_LIST
    }
}

// ===== impl Fields =====

impl Fields {
    pub(super) fn from_json(body: &[u8], names: &FieldNames) -> Result<Self, Kind> {
        // serde's own errors are not shown, because they quote values.
        let broken = |_| Kind::Unreadable("broken JSON");
        let mut json = serde_json::Deserializer::from_slice(body);
        let found = Members(names).deserialize(&mut json).map_err(broken)?;
        json.end().map_err(broken)?;
        found
    }

    pub(super) fn from_form(body: &[u8], names: &FieldNames) -> Result<Self, Kind> {
        let mut fields = Self::default();
        for (name, value) in form::members(body) {
            let value = Scalar::Text(value);
            if let Some((field, rank)) = names.find(&name) {
                fields.add(field, rank, value)?;
            }
        }
        if fields.found.is_empty() {
            return Err(Kind::Unreadable("neither JSON nor a form"));
        }
        Ok(fields)
    }

    /// Every value of a field, by precedence.
    pub(super) fn all(&self, field: Field) -> impl Iterator<Item = &Scalar> {
        let ranks = 0..field.usual_names().len();
        ranks.filter_map(move |rank| {
            let found = self.found.iter().find(|(of, at, _)| (*of, *at) == (field, rank));
            found.map(|(_, _, value)| value)
        })
    }

    /// Nested values, which only an error has.
    pub(super) fn nested(&self, field: Field) -> Option<&str> {
        self.nested.iter().find_map(|nested| match field {
            Field::Error => nested.code.as_ref().map(|text| text.as_str()),
            Field::ErrorDescription => nested.message.as_ref().map(|text| text.as_str()),
            _ => None,
        })
    }

    /// Whether there is a list of errors that is not empty.
    pub(super) fn has_error_list(&self) -> bool {
        self.has_error_list
    }

    fn add_error_list(&mut self, errors: &Json<'_>) {
        self.has_error_list |= nested::has_error(errors);
        self.nested[1] = Nested::of(errors);
    }

    /// An error as the scalar that it should be; other forms are kept as nested values.
    fn error(&mut self, error: Json<'_>) -> Scalar {
        match error {
            Json::List(_) if !nested::has_error(&error) => Scalar::Nothing,
            Json::Bool(true) | Json::List(_) | Json::Object(_) => {
                self.nested[0] = Nested::of(&error);
                Scalar::Other
            }
            scalar => Scalar::of(scalar),
        }
    }

    /// A scope as a text, from a text or a list of names.
    fn scope(scope: Json<'_>) -> Scalar {
        let Json::List(names) = scope else { return Scalar::of(scope) };
        let names: Option<Vec<_>> = names.iter().map(|name| json::text(name)).collect();
        names.map_or(Scalar::Other, |names| {
            let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
            Scalar::Text(Zeroizing::new(names.join(" ")))
        })
    }

    /// Claims as a text, from a text or an object.
    fn claims(written: &str, claims: Json<'_>) -> Scalar {
        match claims {
            Json::Object(_) => Scalar::Text(without_space(written)),
            Json::Null | Json::Text(_) => Scalar::of(claims),
            _ => Scalar::Other,
        }
    }

    /// A repeated name is an error (RFC 6749 §5.1): an intermediary might use the other value.
    fn add(&mut self, field: Field, rank: usize, value: Scalar) -> Result<(), Kind> {
        if self.found.iter().any(|(of, at, _)| (*of, *at) == (field, rank)) {
            return Err(Kind::Unreadable("the same member twice"));
        }
        self.found.push((field, rank, value));
        Ok(())
    }
}

/// JSON on one line.
fn without_space(json: &str) -> Zeroizing<String> {
    let mut line = Zeroizing::new(String::with_capacity(json.len()));
    let (mut in_text, mut is_escaped) = (false, false);
    for character in json.chars() {
        in_text ^= character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        if in_text || !character.is_ascii_whitespace() {
            line.push(character);
        }
    }
    line
}

// ===== impl Scalar =====

impl Scalar {
    fn of(value: Json<'_>) -> Self {
        match value {
            Json::Text(text) => Self::Text(text),
            Json::Number(written) => {
                let number = written.parse().ok().filter(|number: &f64| number.is_finite());
                number.map_or(Self::Other, Self::Number)
            }
            Json::Null => Self::Nothing,
            Json::Bool(false) => Self::False,
            Json::Bool(true) | Json::List(_) | Json::Object(_) => Self::Other,
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// A number, or a text that contains one.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
            Self::Nothing | Self::False | Self::Other => None,
        }
    }

    /// Whether the value reports an error: `null`, `false`, 0 and an empty text do not.
    pub(super) fn reports_error(&self) -> bool {
        !matches!(self, Self::False) && !self.is_empty() && self.number() != Some(0.0)
    }

    /// Whether the value is empty.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Text(text) => text.trim().is_empty(),
            Self::Number(_) | Self::False | Self::Other => false,
        }
    }
}

// ===== JSON =====

/// Reads an object's members, and distinguishes an unacceptable object from an unreadable one.
struct Members<'a>(&'a FieldNames);

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = Result<Fields, Kind>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> de::Visitor<'de> for Members<'_> {
    type Value = Result<Fields, Kind>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        let mut added = Ok(());
        while let Some(name) = object.next_key::<String>()? {
            let (field, is_error_list) = (self.0.find(&name), self.0.is_error_list(&name));
            if field.is_none() && !is_error_list {
                object.next_value::<IgnoredAny>()?;
                continue;
            }
            let raw: &RawValue = object.next_value()?;
            let value = Json::of(raw).ok_or_else(|| A::Error::custom("half a character"))?;
            if is_error_list {
                fields.add_error_list(&value);
            } else if let Some((field, rank)) = field {
                let value = match field {
                    Field::Error => fields.error(value),
                    Field::Scope => Fields::scope(value),
                    Field::Claims => Fields::claims(raw.get(), value),
                    _ => Scalar::of(value),
                };
                added = added.and_then(|()| fields.add(field, rank, value));
            }
        }
        Ok(added.map(|()| fields))
    }
}
