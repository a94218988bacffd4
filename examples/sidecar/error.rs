//! The text of an error, in one line.

use std::error::Error;

/// The error and its causes.
pub(crate) fn explain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text.replace(['\r', '\n'], " ")
}
