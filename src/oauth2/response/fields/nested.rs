//! An error that is an object or a list, in the forms that services send.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::json::{self, Json};

/// How deeply an error may be nested.
const MAX_DEPTH: usize = 8;
/// The names of a code, the most specific one first.
const CODES: [&str; 8] =
    ["errorType", "errorCode", "error_code", "error", "status", "code", "reason", "type"];
/// The names of a description beside a code.
const MESSAGES: [&str; 7] = [
    "error_description",
    "errorMessage",
    "errorSummary",
    "message",
    "description",
    "detail",
    "title",
];
/// The names under which an error may be nested once more.
const WRAPPERS: [&str; 2] = ["error", "errors"];

type Members<'a> = BTreeMap<String, &'a RawValue>;
type Text = Zeroizing<String>;

/// The code and the description of a nested error.
#[derive(Default)]
pub(super) struct Nested {
    pub(super) code: Option<Text>,
    pub(super) message: Option<Text>,
}

// ===== impl Nested =====

impl Nested {
    pub(super) fn of(value: &Json<'_>) -> Self {
        Self::at(value, MAX_DEPTH)
    }

    /// The first error with a code or a description.
    fn at(value: &Json<'_>, depth: usize) -> Self {
        let Some(deeper) = depth.checked_sub(1) else { return Self::default() };
        match value {
            Json::List(errors) => {
                let mut errors = errors.iter().filter_map(|error| Json::of(error));
                let found = errors.find_map(|error| Self::at(&error, deeper).some());
                found.unwrap_or_default()
            }
            Json::Object(members) => Self::of_object(members, deeper),
            Json::Text(said) => Self { code: not_blank(said).cloned(), message: None },
            Json::Number(written) => Self { code: Some(text(written)), message: None },
            Json::Null | Json::Bool(_) => Self::default(),
        }
    }

    fn of_object(members: &Members<'_>, deeper: usize) -> Self {
        let first = |names: &[&str], read: fn(&RawValue) -> Option<Text>| {
            names.iter().find_map(|name| members.get(*name).and_then(|value| read(value)))
        };
        let code = first(&CODES, said);
        let wrapped = WRAPPERS.iter().filter_map(|name| members.get(*name));
        let mut wrapped = wrapped.filter_map(|value| Json::of(value));
        let wrapped = wrapped.find(|value| matches!(value, Json::List(_) | Json::Object(_)));
        let wrapped = wrapped.map(|value| Self::at(&value, deeper)).unwrap_or_default();
        Self {
            code: code.or(wrapped.code).or_else(|| first(&CODES, number)),
            message: first(&MESSAGES, said).or(wrapped.message),
        }
    }

    fn some(self) -> Option<Self> {
        (self.code.is_some() || self.message.is_some()).then_some(self)
    }
}

/// Whether the value contains an error, even one without a code or a description.
pub(super) fn has_error(value: &Json<'_>) -> bool {
    has_error_at(value, MAX_DEPTH)
}

fn has_error_at(value: &Json<'_>, depth: usize) -> bool {
    let Some(deeper) = depth.checked_sub(1) else { return false };
    match value {
        Json::Null => false,
        Json::Bool(value) => *value,
        Json::Number(written) => written.parse() != Ok(0.0),
        Json::Text(text) => not_blank(text).is_some(),
        Json::List(errors) => errors
            .iter()
            .filter_map(|error| Json::of(error))
            .any(|error| has_error_at(&error, deeper)),
        Json::Object(members) => !members.is_empty(),
    }
}

fn said(value: &RawValue) -> Option<Text> {
    json::text(value).filter(|text| not_blank(text).is_some())
}

fn number(value: &RawValue) -> Option<Text> {
    match Json::of(value) {
        Some(Json::Number(written)) => Some(text(written)),
        _ => None,
    }
}

fn not_blank(text: &Text) -> Option<&Text> {
    Some(text).filter(|text| !text.trim().is_empty())
}

fn text(text: &str) -> Text {
    Zeroizing::new(text.to_owned())
}
