//! Hosts in the forms that users write.

use std::fmt::Display;

/// The host of a text that may be a URL.
pub(super) fn host(text: impl Display) -> String {
    let text = text.to_string();
    text.strip_prefix("https://").unwrap_or(&text).trim_end_matches('/').to_owned()
}
