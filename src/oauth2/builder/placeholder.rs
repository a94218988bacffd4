//! Texts copied from documentation and never filled in: `{apikey}`, `<your-id>`.
//!
//! The rule is narrow, because ids and keys may look like anything: a name in braces or angle
//! brackets that begins with a letter and has only letters, `_`, `-`, `.` and spaces. So JSON and a
//! GUID in braces are not placeholders.

/// Whether a text is a placeholder and nothing else.
pub(super) fn is_one(text: &str) -> bool {
    let text = text.trim();
    let inside = |open, close| text.strip_prefix(open)?.strip_suffix(close);
    inside('{', '}').or_else(|| inside('<', '>')).is_some_and(is_name)
}

/// Whether a text contains a placeholder.
pub(super) fn is_in(text: &str) -> bool {
    let inside = |open: char, close: char| {
        text.split(open).skip(1).filter_map(move |tail| Some(tail.split_once(close)?.0))
    };
    inside('{', '}').chain(inside('<', '>')).any(is_name)
}

/// Whether a parameter or a header of that name is an API key.
pub(super) fn is_api_key(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace(['-', '_'], "");
    name.ends_with("apikey")
}

fn is_name(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphabetic() || b"_-. ".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_brackets_is_a_placeholder_and_other_text_in_brackets_is_not() {
        for text in ["{apikey}", "<your-id>", " <YOUR CLIENT ID> ", "{tenant.host}", "<api_key>"] {
            assert!(is_one(text) && is_in(text), "{text}");
        }
        for text in [
            "",
            "{}",
            "<>",
            "{",
            "apikey",
            "{apikey",
            "<apikey}",
            "{\"type\":\"key\"}",
            "{3F2504E0-4F89-11D3-9A0C-0305E82C3301}",
            "{SSHA}x",
            "a{b}",
            "<<a>>",
        ] {
            assert!(!is_one(text), "{text}");
        }
    }

    #[test]
    fn a_placeholder_is_found_in_the_middle_of_a_url() {
        for url in [
            "https://{tenant}/token",
            "https://login.example.com/{tenant-id}/token",
            "https://<tenant host>/token",
            "https://a.example/{/{x}",
            "https://a.example/?key=<key>",
        ] {
            assert!(is_in(url), "{url}");
        }
        for url in
            ["https://a.example/{}", "https://a.example/?q={\"a\":1}", "https://a.example/}{"]
        {
            assert!(!is_in(url), "{url}");
        }
    }
}
