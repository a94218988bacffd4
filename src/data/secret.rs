//! Where a secret is kept, as data.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

use super::tree::{shown_key, unknown_field};
use crate::secret::Secret;

/// The keys that say where a secret is kept.
const KEYS: &[&str] = &["env", "file", "json_file", "member", "text"];

/// The data names the place of a secret, and never contains it: `{ env = "NAME" }`, `{ file =
/// "PATH" }` or `{ json_file = "PATH", member = "NAME" }` (features `oauth2` and `serde`).
///
/// Any other value is an error, which does not show the value.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(Place { takes_text: false })? {
            Either::Secret(secret) => Ok(secret),
            Either::Text { .. } => Err(inline()),
        }
    }
}

/// A secret, or a text that is not secret.
#[derive(Clone, Debug)]
pub(crate) enum Either {
    Secret(Secret),
    Text {
        text: String,
        /// The same text, for a caller that wants a secret.
        secret: Secret,
    },
}

/// A value that is a secret unless it is marked as a plain text: `{ text = "…" }`.
#[derive(Clone, Debug)]
pub(crate) struct SecretOrText(pub(crate) Either);

/// A value that is either a plain text or a secret.
#[derive(Clone, Debug)]
pub(crate) struct TextOrSecret(pub(crate) Either);

// ===== impl Either =====

impl Either {
    fn text(text: String) -> Self {
        Self::Text { secret: Secret::new(text.as_str()), text }
    }

    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Self::Text { .. })
    }

    pub(crate) fn secret(&self) -> &Secret {
        let (Self::Secret(secret) | Self::Text { secret, .. }) = self;
        secret
    }
}

impl<'de> Deserialize<'de> for SecretOrText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Place { takes_text: false }).map(Self)
    }
}

impl<'de> Deserialize<'de> for TextOrSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Place { takes_text: true }).map(Self)
    }
}

fn inline<E: Error>() -> E {
    E::custom(
        "a secret must not be written here: say where it is kept, with `{ env = \"NAME\" }` or \
         `{ file = \"PATH\" }`",
    )
}

fn not_one_place<E: Error>() -> E {
    E::custom(
        "a secret is kept in one place: `{ env = \"NAME\" }`, `{ file = \"PATH\" }` or \
         `{ json_file = \"PATH\", member = \"NAME\" }`",
    )
}

// ===== impl Place =====

/// Reads the place of a secret. Its errors do not quote the input, as serde's errors do.
struct Place {
    /// Whether the text may be written out.
    takes_text: bool,
}

impl Place {
    fn refuse<T, E: Error>(&self) -> Result<T, E> {
        if self.takes_text {
            return Err(E::custom("must be a text, `{ env = \"NAME\" }` or `{ file = \"PATH\" }`"));
        }
        Err(inline())
    }
}

impl<'de> Visitor<'de> for Place {
    type Value = Either;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`{ env = \"NAME\" }` or `{ file = \"PATH\" }`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Either, A::Error> {
        let mut written = [const { None }; 5];
        while let Some(key) = map.next_key::<String>()? {
            let place =
                KEYS.iter().position(|known| *known == key).and_then(|at| written.get_mut(at));
            let Some(place) = place else {
                return Err(match shown_key(&key) {
                    // Made inside the value, so that the key is part of the error's place.
                    Some(_) => match map.next_value_seed(Unknown(&key)) {
                        Err(error) => error,
                        Ok(never) => match never {},
                    },
                    None => A::Error::custom(unknown_field(&key, KEYS)),
                });
            };
            if place.replace(map.next_value::<Written>()?.0).is_some() {
                return Err(not_one_place());
            }
        }
        Ok(Either::Secret(match written {
            [Some(name), None, None, None, None] => Secret::env(name),
            [None, Some(path), None, None, None] => Secret::file(path),
            [None, None, Some(path), Some(member), None] => Secret::json_file(path, member),
            [None, None, None, None, Some(text)] => return Ok(Either::text(text)),
            _ => return Err(not_one_place()),
        }))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Either, E> {
        if self.takes_text { Ok(Either::text(text.to_owned())) } else { Err(inline()) }
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Either, E> {
        self.refuse()
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Either, E> {
        self.refuse()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Either, E> {
        self.refuse()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Either, E> {
        self.refuse()
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Either, E> {
        self.refuse()
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Either, E> {
        self.refuse()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Either, E> {
        self.refuse()
    }
}

/// The value of one of the keys.
struct Written(String);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            _ => Err(D::Error::custom("must be a text")),
        }
    }
}

/// The value of an unknown key.
struct Unknown<'a>(&'a str);

enum Never {}

impl<'de> DeserializeSeed<'de> for Unknown<'_> {
    type Value = Never;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Never, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        Err(D::Error::custom(unknown_field(self.0, KEYS)))
    }
}
