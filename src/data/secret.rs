//! Where a secret is kept, as data.

use std::{fmt, path::PathBuf};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::secret::Secret;

/// A secret is named, never written: `{ env = "NAME" }`, `{ file = "PATH" }` or
/// `{ json_file = "PATH", member = "NAME" }` (features `oauth2` and `serde`).
///
/// Anything else is refused with an error that does not show it.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(PlaceVisitor)? {
            Place::Kept(secret) => Ok(secret),
            Place::Here(_) => Err(inline()),
        }
    }
}

/// What may be a secret, or is marked as none: `{ text = "…" }`.
#[derive(Clone, Debug)]
pub(crate) struct SecretOrText(pub(crate) Secret);

impl<'de> Deserialize<'de> for SecretOrText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (Place::Kept(value) | Place::Here(value)) =
            deserializer.deserialize_any(PlaceVisitor)?;
        Ok(Self(value))
    }
}

fn inline<E: Error>() -> E {
    E::custom(
        "a secret must not be written here: say where it is kept, with `{ env = \"NAME\" }` or \
         `{ file = \"PATH\" }`",
    )
}

// ===== impl Place =====

enum Place {
    Kept(Secret),
    /// A text, which is fine if it is no secret.
    Here(Secret),
}

/// Its keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    env: Option<String>,
    file: Option<PathBuf>,
    json_file: Option<PathBuf>,
    member: Option<String>,
    text: Option<String>,
}

impl Keys {
    fn place<E: Error>(self) -> Result<Place, E> {
        let Self { env, file, json_file, member, text } = self;
        Ok(Place::Kept(match (env, file, json_file, member, text) {
            (Some(name), None, None, None, None) => Secret::env(name),
            (None, Some(path), None, None, None) => Secret::file(path),
            (None, None, Some(path), Some(member), None) => Secret::json_file(path, member),
            (None, None, None, None, Some(text)) => return Ok(Place::Here(Secret::new(text))),
            _ => {
                return Err(E::custom(
                    "a secret is kept in one place: `{ env = \"NAME\" }`, `{ file = \"PATH\" }` \
                     or `{ json_file = \"PATH\", member = \"NAME\" }`",
                ));
            }
        }))
    }
}

/// Of what is not a map nothing is shown, as serde would.
struct PlaceVisitor;

impl<'de> Visitor<'de> for PlaceVisitor {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`{ env = \"NAME\" }` or `{ file = \"PATH\" }`")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Place, A::Error> {
        Keys::deserialize(MapAccessDeserializer::new(map))?.place()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Place, E> {
        Err(inline())
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Place, E> {
        Err(inline())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Place, E> {
        Err(inline())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Place, E> {
        Err(inline())
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Place, E> {
        Err(inline())
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Place, E> {
        Err(inline())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Place, E> {
        Err(inline())
    }
}
