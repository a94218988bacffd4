//! An error that is no text but an object, or a list of whatever services make of errors.

use serde_json::{Map, Value};

/// How deep an error may be wrapped.
const MAX_DEPTH: usize = 8;
/// The names of a code, the most telling one first.
const CODES: [&str; 8] =
    ["errorType", "errorCode", "error_code", "error", "status", "code", "reason", "type"];
/// The names of what is said beside a code.
const MESSAGES: [&str; 7] = [
    "error_description",
    "errorMessage",
    "errorSummary",
    "message",
    "description",
    "detail",
    "title",
];
/// The names under which an error may be wrapped once more.
const WRAPPERS: [&str; 2] = ["error", "errors"];

/// What stands deeper than the members of the answer.
#[derive(Default)]
pub(super) struct Nested {
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
}

// ===== impl Nested =====

impl Nested {
    pub(super) fn of(value: &Value) -> Self {
        Self::at(value, MAX_DEPTH)
    }

    /// The first error that has something to say.
    fn at(value: &Value, depth: usize) -> Self {
        let Some(deeper) = depth.checked_sub(1) else { return Self::default() };
        match value {
            Value::Array(errors) => {
                let mut errors = errors.iter().map(|error| Self::at(error, deeper));
                errors.find(Self::is_some).unwrap_or_default()
            }
            Value::Object(members) => Self::of_object(members, deeper),
            scalar => Self { code: text(scalar).or_else(|| number(scalar)), message: None },
        }
    }

    fn of_object(members: &Map<String, Value>, deeper: usize) -> Self {
        let first = |names: &[&str], read: fn(&Value) -> Option<String>| {
            names.iter().find_map(|name| members.get(*name).and_then(read))
        };
        let code = first(&CODES, text);
        let mut wrapped = WRAPPERS.iter().filter_map(|name| members.get(*name));
        let wrapped = wrapped.find(|value| value.is_array() || value.is_object());
        let wrapped = wrapped.map(|value| Self::at(value, deeper)).unwrap_or_default();
        Self {
            code: code.or(wrapped.code).or_else(|| first(&CODES, number)),
            message: first(&MESSAGES, text).or(wrapped.message),
        }
    }

    fn is_some(&self) -> bool {
        self.code.is_some() || self.message.is_some()
    }
}

/// Whether there is an error in it at all, though perhaps one that says nothing.
pub(super) fn is_said(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(errors) => errors.iter().any(is_said),
        Value::Object(members) => !members.is_empty(),
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned)
}

fn number(value: &Value) -> Option<String> {
    value.as_number().map(ToString::to_string)
}
