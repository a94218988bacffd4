//! Reads JSON that may hold secrets without leaving copies of them behind.
//!
//! `serde_json` unescapes a string in a buffer of its own, which grows and is not wiped. So this
//! module takes each value as raw JSON, and unescapes strings itself.

#[cfg(feature = "oauth2")]
use std::collections::BTreeMap;

#[cfg(any(feature = "command", feature = "jwt"))]
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// A value, parsed one level deep.
#[cfg(feature = "oauth2")]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    /// The raw text of the number.
    Number(&'a str),
    Text(Zeroizing<String>),
    List(Vec<&'a RawValue>),
    /// Of two members with the same name, the last.
    Object(BTreeMap<String, &'a RawValue>),
}

/// A member that must be a string, wiped on drop.
#[cfg(any(feature = "command", feature = "jwt"))]
pub(crate) struct Text(pub(crate) Zeroizing<String>);

// ===== impl Json =====

#[cfg(feature = "oauth2")]
impl<'a> Json<'a> {
    /// Parses a value. `None` if a string has an escape without a character: half a surrogate
    /// pair.
    pub(crate) fn of(raw: &'a RawValue) -> Option<Self> {
        let written = raw.get();
        Some(match written.as_bytes().first()? {
            b'"' => Self::Text(text(raw)?),
            b'{' => Self::Object(serde_json::from_str(written).ok()?),
            b'[' => Self::List(serde_json::from_str(written).ok()?),
            b'n' => Self::Null,
            b't' => Self::Bool(true),
            b'f' => Self::Bool(false),
            _ => Self::Number(written),
        })
    }
}

#[cfg(any(feature = "command", feature = "jwt"))]
impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        text(<&RawValue>::deserialize(json)?)
            .map(Self)
            .ok_or_else(|| D::Error::custom("not a string"))
    }
}

// ===== Texts (RFC 8259 §7) =====

/// The value of a string; `None` for any other value.
pub(crate) fn text(raw: &RawValue) -> Option<Zeroizing<String>> {
    unescaped(raw.get().strip_prefix('"')?.strip_suffix('"')?)
}

/// Unescapes into a buffer that never grows, because no character is longer than its escape.
fn unescaped(written: &str) -> Option<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(written.len()));
    let mut rest = written;
    while let Some((before, escape)) = rest.split_once('\\') {
        text.push_str(before);
        let (character, after) = escaped(escape)?;
        text.push(character);
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}

/// The character of an escape, and the rest after it.
fn escaped(escape: &str) -> Option<(char, &str)> {
    let (kind, after) = escape.split_at_checked(1)?;
    let character = match kind {
        "u" => return unicode(after),
        "b" => '\u{8}',
        "f" => '\u{c}',
        "n" => '\n',
        "r" => '\r',
        "t" => '\t',
        "\"" => '"',
        "\\" => '\\',
        "/" => '/',
        _ => return None,
    };
    Some((character, after))
}

/// One unit of UTF-16, or two.
fn unicode(digits: &str) -> Option<(char, &str)> {
    let (first, after) = unit(digits)?;
    if let Some(character) = char::from_u32(first.into()) {
        return Some((character, after));
    }
    let (second, after) = unit(after.strip_prefix("\\u")?)?;
    let character = char::decode_utf16([first, second]).next()?.ok()?;
    Some((character, after))
}

fn unit(digits: &str) -> Option<(u16, &str)> {
    let (digits, after) = digits.split_at_checked(4)?;
    Some((u16::from_str_radix(digits, 16).ok()?, after))
}

#[cfg(all(test, feature = "oauth2", any(feature = "command", feature = "jwt")))]
mod tests {
    use super::*;

    fn text(json: &str) -> Option<String> {
        let text: Option<Text> = serde_json::from_str(json).ok();
        text.map(|text| text.0.to_string())
    }

    #[test]
    fn a_text_is_read_as_serde_json_reads_it() {
        for json in [
            r#""""#,
            r#""plain é""#,
            r#""a\/b\\c\"d\u0041\u00e9\ud83d\udd11\b\f\n\r\t""#,
            r#""\ud83d""#,
            r#""\ud83d\u0041""#,
            r#""\ud83dx\udd11""#,
            r#""\udd11""#,
            r#""\u+123""#,
            r#""\x41""#,
            r#""\""#,
            "\"a\nb\"",
            "7",
            "null",
        ] {
            assert_eq!(text(json), serde_json::from_str(json).ok(), "{json}");
        }
    }

    #[test]
    fn the_room_for_a_text_is_large_enough() {
        let json = r#""\ud83d\udd11\u0041\n\u20ac""#;
        let text: Text = serde_json::from_str(json).unwrap();
        assert_eq!(text.0.capacity(), json.len() - 2);
    }

    #[test]
    fn each_kind_of_value_is_told_apart() {
        let kind = |json: &str| {
            let raw: &RawValue = serde_json::from_str(json).unwrap();
            match Json::of(raw).unwrap() {
                Json::Null => "null".to_owned(),
                Json::Bool(value) => value.to_string(),
                Json::Number(written) => written.to_owned(),
                Json::Text(text) => text.to_string(),
                Json::List(values) => format!("{} values", values.len()),
                Json::Object(members) => format!("{} members", members.len()),
            }
        };
        for (json, expected) in [
            (" null ", "null"),
            ("true", "true"),
            ("false", "false"),
            ("-1.5e3", "-1.5e3"),
            (r#" "a" "#, "a"),
            ("[1, [2], {}]", "3 values"),
            (r#"{"a": 1, "b": {"c": 2}, "a": 3}"#, "2 members"),
        ] {
            assert_eq!(kind(json), expected, "{json}");
        }
    }
}
