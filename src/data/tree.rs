//! A tree of values as a deserializer whose errors show none of them.
//!
//! An error of serde or of a format quotes the value that it is about, which may be a secret in the
//! wrong place. The errors here never contain a value, whichever way they are made.

use std::fmt::{self, Display};

use serde::{
    Deserializer,
    de::{
        self, Expected, IntoDeserializer, Unexpected, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::Value;

/// The longest key that an error shows.
const MAX_KEY: usize = 32;

/// One value to read.
pub(super) struct Tree(pub(super) Value);

/// The problem of a value. Its text does not show the value.
#[derive(Debug)]
pub(super) struct Problem {
    text: String,
    /// Whether the error must not show the last key of its path either.
    pub(super) hides_key: bool,
}

/// An unknown key, if it looks like a key. One that has a digit, a capital or another character is
/// more likely a value in the place of a key.
pub(super) fn shown_key(key: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || b"_-".contains(&byte);
    (key.len() <= MAX_KEY && key.bytes().all(is_plain)).then_some(key)
}

/// Says that a key is unknown, and which keys are known.
pub(super) fn unknown_field(key: &str, known: &'static [&'static str]) -> String {
    let key = shown_key(key).map(|key| format!(" `{key}`")).unwrap_or_default();
    format!("unknown field{key}{}", expected(known))
}

fn expected(known: &[&str]) -> String {
    match known {
        [] => String::new(),
        [one] => format!(", expected `{one}`"),
        [one, other] => format!(", expected `{one}` or `{other}`"),
        many => format!(", expected one of `{}`", many.join("`, `")),
    }
}

// ===== impl Tree =====

impl<'de> Deserializer<'de> for Tree {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::String(text) => visitor.visit_string(text),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (_, _, Some(number)) => visitor.visit_f64(number),
                _ => Err(de::Error::custom("number out of range")),
            },
            Value::Array(values) => {
                let mut values = SeqDeserializer::new(values.into_iter().map(Tree));
                let found = visitor.visit_seq(&mut values)?;
                values.end().map(|()| found)
            }
            Value::Object(members) => {
                let members = members.into_iter().map(|(name, value)| (name, Tree(value)));
                let mut members = MapDeserializer::new(members);
                let found = visitor.visit_map(&mut members)?;
                members.end().map(|()| found)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    /// Supports only enums without data.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(name.into_deserializer()),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl IntoDeserializer<'_, Problem> for Tree {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

// ===== impl Problem =====

impl de::Error for Problem {
    fn custom<T: Display>(text: T) -> Self {
        Self { text: text.to_string(), hides_key: false }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("invalid type: {}, expected {expected}", kind(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("invalid value: {}, expected {expected}", kind(found)))
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self::custom(format_args!("unknown variant{}", expected(known)))
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self { text: unknown_field(key, known), hides_key: shown_key(key).is_none() }
    }
}

/// The type of a value, without the value.
fn kind(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "integer",
        Unexpected::Float(_) => "floating point",
        Unexpected::Char(_) | Unexpected::Str(_) => "string",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq => "sequence",
        Unexpected::Map => "map",
        _ => "another value",
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    fn read<'de, T: Deserialize<'de>>(value: Value) -> Result<T, String> {
        T::deserialize(Tree(value)).map_err(|problem| problem.to_string())
    }

    #[test]
    fn what_a_value_is_instead_is_said_without_the_value() {
        for (value, kind) in [
            (json!(true), "boolean"),
            (json!(null), "null"),
            (json!(["hush"]), "sequence"),
            (json!({"hush": 1}), "map"),
            (json!("hush"), "string"),
        ] {
            let problem = read::<u8>(value).unwrap_err();
            assert_eq!(problem, format!("invalid type: {kind}, expected u8"));
        }
        let problem = read::<String>(json!(7)).unwrap_err();
        assert_eq!(problem, "invalid type: integer, expected a string");
        let problem = read::<String>(json!(7.5)).unwrap_err();
        assert_eq!(problem, "invalid type: floating point, expected a string");
    }

    #[test]
    fn numbers_are_read_whole() {
        assert_eq!(read(json!(u64::MAX)), Ok(u64::MAX));
        assert_eq!(read(json!(i64::MIN)), Ok(i64::MIN));
        assert_eq!(read(json!(0.5)), Ok(0.5));
    }

    #[test]
    fn null_is_nothing_where_something_may_be_missing() {
        assert_eq!(read::<Option<u8>>(json!(null)), Ok(None));
        assert_eq!(read(json!(7)), Ok(Some(7_u8)));
    }
}
