//! Makes a server's texts safe to show (RFC 6749 §5.2): printable ASCII, bounded, and without our
//! secrets in any spelling.

mod unescape;

use std::{
    error::Error,
    fmt::{self, Write},
    ops::Range,
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use zeroize::Zeroizing;

use self::unescape::{Escaping, Unescaped};

/// How many characters of a text are kept.
const MAX_CHARS: usize = 512;
/// How many bytes of a text are searched.
const MAX_TEXT: usize = 16 * 1024;
/// The longest escaped form of one byte of a secret, such as `&#x0026;#37;`, with a margin.
const MAX_ESCAPED: usize = 16;
/// How many layers of escapes to undo: a form in a JSON text in an HTML page has three.
const MAX_LAYERS: usize = 3;
/// The shortest piece of base64 to search for. A shorter one may be a word.
const MIN_BASE64: usize = 6;
/// Replaces a secret. It has no letter that a short secret could match in turn.
const MARK: &str = "***";

/// Holds the secrets to redact.
#[derive(Default)]
pub(super) struct Redactor {
    /// The patterns to search for, unescaped.
    needles: Vec<Zeroizing<Vec<u8>>>,
    longest: usize,
}

// ===== impl Redactor =====

impl Redactor {
    /// Adds a secret: verbatim, reduced to ASCII, in Latin-1, and in base64, also as a part of a
    /// longer text.
    pub(super) fn hide(&mut self, secret: &str) {
        let bytes = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        // Reserve the whole length: `collect` would grow, and leave copies behind.
        let mut latin = Zeroizing::new(Vec::with_capacity(secret.len()));
        latin.extend(secret.chars().map_while(|c| u8::try_from(c).ok()));
        let mut filtered = Zeroizing::new(String::with_capacity(secret.len()));
        filtered.extend(secret.chars().map(printable));
        let mut needles = vec![bytes(secret), bytes(&filtered)];
        if latin.len() == secret.chars().count() {
            needles.push(latin);
        }
        for encoded in [
            Zeroizing::new(BASE64_STANDARD_NO_PAD.encode(secret)),
            Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(secret)),
        ] {
            needles.push(bytes(&encoded));
        }
        needles.extend(inner_base64(secret.as_bytes()));
        for needle in needles {
            if !needle.is_empty() && !self.needles.contains(&needle) {
                self.longest = self.longest.max(needle.len());
                self.needles.push(needle);
            }
        }
    }

    /// The text with `***` in place of every secret, in printable ASCII, 512 characters at most.
    ///
    /// It finds all places before it replaces any, so that neither overlapping secrets nor the
    /// cut at the end leave a part of one behind.
    pub(super) fn clean(&self, text: &str) -> String {
        self.clean_to(MAX_CHARS, text)
    }

    /// Cleans the text of an error and its causes.
    pub(super) fn clean_error(&self, error: &(dyn Error + 'static)) -> String {
        let mut text = Beginning::default();
        let mut next = Some(error);
        let mut mark = "";
        while let Some(error) = next {
            // Writing fails once the text is long enough.
            if write!(text, "{mark}{error}").is_err() {
                break;
            }
            (next, mark) = (error.source(), ": ");
        }
        self.clean(&text.0)
    }

    /// Cleans with another limit.
    pub(super) fn clean_to(&self, max_chars: usize, text: &str) -> String {
        let (text, is_cut) = start_of(text);
        let is_secret = self.places(text, is_cut);
        let mut clean = String::new();
        let mut after_secret = false;
        for (at, character) in text.char_indices() {
            // A byte that is not known to be safe is redacted.
            let is_secret = is_secret.get(at).copied().unwrap_or(true);
            match (is_secret, after_secret) {
                (true, false) => clean.push_str(MARK),
                (true, true) => {}
                (false, _) => clean.push(printable(character)),
            }
            after_secret = is_secret;
            if clean.len() >= max_chars {
                break;
            }
        }
        clean.truncate(max_chars);
        clean
    }

    /// Which bytes of the text belong to a secret.
    fn places(&self, text: &str, is_cut: bool) -> Vec<bool> {
        let mut is_secret = vec![false; text.len()];
        if self.needles.is_empty() {
            return is_secret;
        }
        if is_cut {
            // The tail may be the beginning of a secret that continues after the cut.
            let tail = self.longest.saturating_mul(MAX_ESCAPED);
            is_secret.iter_mut().rev().take(tail).for_each(|is_secret| *is_secret = true);
        }
        self.mark_layers(&Unescaped::new(text), MAX_LAYERS, &mut is_secret);
        is_secret
    }

    /// Marks the secrets of a text, and those that appear when it is unescaped, in every order of
    /// escaping.
    fn mark_layers(&self, text: &Unescaped, layers: usize, is_secret: &mut [bool]) {
        self.mark(text, is_secret);
        let Some(deeper) = layers.checked_sub(1) else { return };
        for layer in Escaping::ALL.into_iter().filter_map(|escaping| text.undo(escaping)) {
            self.mark_layers(&layer, deeper, is_secret);
        }
    }

    fn mark(&self, text: &Unescaped, is_secret: &mut [bool]) {
        for needle in &self.needles {
            let windows = text.bytes.windows(needle.len()).enumerate();
            for (at, _) in windows.filter(|(_, window)| *window == needle.as_slice()) {
                let place: Range<usize> = text.origin(at, needle.len());
                is_secret.iter_mut().take(place.end).skip(place.start).for_each(|it| *it = true);
            }
        }
    }
}

/// The part of a written text that is searched, and a little more. The buffer does not grow, which
/// would leave copies behind.
struct Beginning(Zeroizing<String>);

// ===== impl Beginning =====

impl Default for Beginning {
    fn default() -> Self {
        Self(Zeroizing::new(String::with_capacity(MAX_TEXT + 4)))
    }
}

impl Write for Beginning {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.0.len() > MAX_TEXT {
                return Err(fmt::Error);
            }
            self.0.push(character);
        }
        Ok(())
    }
}

/// The beginning of a text, and whether the text was too long.
fn start_of(text: &str) -> (&str, bool) {
    let mut end = MAX_TEXT.min(text.len());
    loop {
        if let Some(start) = text.get(..end) {
            return (start, end < text.len());
        }
        end = end.saturating_sub(1);
    }
}

/// The part of a secret's base64 that does not depend on its position in a longer text.
fn inner_base64(secret: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut found = Vec::new();
    // A character holds six bits. Those at the edges have bits of the neighbours: the number at
    // the beginning depends on the number of bytes before.
    for (before, edge) in [(0_usize, 0), (1, 2), (2, 3)] {
        let mut padded = Zeroizing::new(Vec::with_capacity(before.saturating_add(secret.len())));
        padded.resize(before, 0);
        padded.extend_from_slice(secret);
        let whole = padded.len().saturating_mul(8) / 6;
        for engine in [&BASE64_STANDARD_NO_PAD, &BASE64_URL_SAFE_NO_PAD] {
            let encoded = Zeroizing::new(engine.encode(&*padded));
            let pure = encoded.as_bytes().get(edge..whole).unwrap_or_default();
            if pure.len() >= MIN_BASE64 {
                found.push(Zeroizing::new(pure.to_vec()));
            }
        }
    }
    found
}

/// Replaces an unprintable character. Removing it could join the parts
/// around it to a secret.
fn printable(character: char) -> char {
    match character {
        ' '..='~' => character,
        '\t' | '\r' | '\n' => ' ',
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "é".repeat(MAX_TEXT);
        let (start, is_cut) = start_of(&long[..MAX_TEXT + 2]);
        assert_eq!((start, is_cut), (&long[..MAX_TEXT / 2 * 2], true));
        let odd = format!("x{long}");
        let (start, is_cut) = start_of(&odd);
        assert!(is_cut && odd.starts_with(start));
        assert!((MAX_TEXT - 1..=MAX_TEXT).contains(&start.len()));
        assert_eq!(start_of("short"), ("short", false));
    }

    fn clean(secrets: &[&str], text: &str) -> String {
        let mut redactor = Redactor::default();
        for secret in secrets {
            redactor.hide(secret);
        }
        redactor.clean(text)
    }

    #[test]
    fn a_secret_is_hidden_in_every_spelling() {
        let secret = "p/s \"w\"\u{e9}+~A";
        for echo in [
            "p/s \"w\"\u{e9}+~A",
            "p%2Fs+%22w%22%C3%A9%2B%7EA",
            "p%2Fs%20%22w%22%C3%A9%2B%7EA",
            "p%2fs+%22w%22%c3%a9%2b%7eA",
            "p%2fs%20%22w%22%c3%a9%2b%7eA",
            "p/s \\\"w\\\"\u{e9}+~A",
            "p/s \"w\"?+~A",
            "cC9zICJ3IsOpK35B",
        ] {
            assert_eq!(clean(&[secret], &format!("<{echo}>")), "<***>", "{echo}");
        }
        let urlsafe = clean(&["\u{3ff}\u{3ff}?"], "<z7_Pvz8>");
        assert_eq!(urlsafe, "<***>");
    }

    const SECRET: &str = "p/s \"w\"<&>'\\\u{e9}+~%A=;\u{1f511}";

    fn hidden(echo: &str) {
        assert_eq!(clean(&[SECRET], &format!("<{echo}>")), "<***>", "{echo}");
    }

    fn concat(pieces: impl Iterator<Item = String>) -> String {
        pieces.collect()
    }

    fn each(write: impl Fn(char) -> String) -> String {
        SECRET.chars().map(write).collect()
    }

    fn each_byte(write: impl Fn(u8) -> String) -> String {
        SECRET.bytes().map(write).collect()
    }

    #[test]
    fn an_echo_in_percent_encoding_is_hidden_whichever_bytes_are_encoded_and_how() {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric();
        let some = |write: fn(u8) -> String| {
            each_byte(|byte| if is_plain(byte) { char::from(byte).into() } else { write(byte) })
        };
        hidden(&some(|byte| format!("%{byte:02X}")));
        hidden(&some(|byte| format!("%{byte:02x}")));
        hidden(&each_byte(|byte| format!("%{byte:02X}")));
        hidden(&each_byte(|byte| format!("%{byte:02x}")));
        let form = some(|byte| if byte == b' ' { "+".into() } else { format!("%{byte:02X}") });
        hidden(&form);
        hidden(&form.replace('%', "%25"));
        // Plain spaces, plain pluses, and only the necessary escapes.
        hidden(&SECRET.replace('%', "%25"));
        hidden(&SECRET.replace('%', "%25").replace('"', "%22").replace('&', "%26"));
        let mixed =
            each_byte(
                |byte| {
                    if byte % 2 == 0 { format!("%{byte:02x}") } else { format!("%{byte:02X}") }
                },
            );
        hidden(&mixed);
    }

    #[test]
    fn an_echo_in_html_is_hidden_by_name_and_by_number() {
        let escaped = SECRET.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        hidden(&escaped);
        hidden(&escaped.replace('"', "&quot;").replace('\'', "&#39;"));
        hidden(
            &escaped.replace('"', "&#34;").replace('\'', "&#x27;").replace('\u{e9}', "&eacute;"),
        );
        hidden(&escaped.replace('"', "&QUOT;").replace('\'', "&apos;").replace('/', "&sol;"));
        hidden(&each(|c| match c {
            '=' => "&equals;".to_owned(),
            '+' => "&plus;".to_owned(),
            ';' => "&semi;".to_owned(),
            '&' => "&AMP;".to_owned(),
            other => other.to_string(),
        }));
        hidden(&each(|c| format!("&#{};", u32::from(c))));
        hidden(&each(|c| format!("&#x{:x};", u32::from(c))));
        hidden(&each(|c| format!("&#X{:04X};", u32::from(c))));
        hidden(&each(|c| format!("&#{:07};", u32::from(c))));
        // Escaped twice.
        hidden(&escaped.replace('&', "&amp;"));
    }

    #[test]
    fn an_echo_in_json_is_hidden() {
        let json = serde_json::to_string(SECRET).unwrap();
        hidden(&json[1..json.len() - 1]);
        hidden(&json[1..json.len() - 1].replace('/', "\\/"));
        let mut room = [0; 2];
        let units = SECRET.chars().flat_map(|c| c.encode_utf16(&mut room).to_vec());
        let units: Vec<_> = units.collect();
        hidden(&concat(units.iter().map(|unit| format!("\\u{unit:04x}"))));
        hidden(&concat(units.iter().map(|unit| format!("\\u{unit:04X}"))));
        // In a page, in a form.
        let json = &json[1..json.len() - 1];
        hidden(&json.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;"));
        hidden(&concat(json.bytes().map(|byte| format!("%{byte:02X}"))));
    }

    #[test]
    fn an_echo_in_base64_is_hidden_even_inside_a_longer_text() {
        for before in ["", "a", "ab", "abc"] {
            for after in ["", "x", "xy"] {
                let text = BASE64_STANDARD_NO_PAD.encode(format!("{before}hush-hush-hush{after}"));
                let shown = clean(&["hush-hush-hush"], &text);
                assert!(shown.contains("***") && shown.len() <= 13, "{text}: {shown}");
            }
        }
        let padded = base64::prelude::BASE64_STANDARD.encode(SECRET);
        assert_eq!(clean(&[SECRET], &padded).trim_end_matches('='), "***");
        let encoded = concat(padded.bytes().map(|byte| format!("%{byte:02x}")));
        assert!(clean(&[SECRET], &encoded).starts_with("***"));
    }

    #[test]
    fn a_secret_that_looks_escaped_is_found_verbatim_and_escaped_again() {
        for echo in ["50%25&amp;\\n", "50%2525%26amp%3B%5Cn", "50%25&amp;amp;\\n"] {
            assert_eq!(clean(&["50%25&amp;\\n"], &format!("<{echo}>")), "<***>", "{echo}");
        }
    }

    #[test]
    fn text_that_only_looks_like_an_escape_is_unchanged() {
        let text = "100% & more &; &#; &#x; &#99999999; &nope; \\u12 \\ud800 %u %zz a+b \\";
        assert_eq!(clean(&["hush"], text), text);
        for end in ["%", "%4", "&", "&#", "&#x", "&am", "\\", "\\u", "\\u00", "\\x", "%u00"] {
            assert_eq!(clean(&["hush"], end), end);
        }
    }

    #[test]
    fn a_long_text_is_searched_up_to_a_limit_and_ends_with_no_part_of_a_secret() {
        let text = format!("{}hush-hush", "hush-hush".repeat(MAX_TEXT / 9)) + &"x".repeat(MAX_TEXT);
        assert_eq!(clean(&["hush-hush"], &text), "***");
        let text = format!("{}x", "\u{e9}".repeat(MAX_TEXT));
        assert_eq!(clean(&["hush-hush"], &text), "?".repeat(MAX_CHARS));
    }

    #[test]
    fn overlapping_and_nested_secrets_leave_no_part() {
        assert_eq!(clean(&["abcd", "cdef", "cd"], "<abcdef> <cd>"), "<***> <***>");
        assert_eq!(clean(&["a", "*"], "a*b"), "***b");
        assert_eq!(clean(&["aa"], "<aaa>"), "<***>");
    }

    #[test]
    fn a_cut_leaves_no_part_of_a_secret() {
        let text = format!("{}hush-hush", "x".repeat(MAX_CHARS - 4));
        let shown = clean(&["hush-hush"], &text);
        assert!(shown.len() <= MAX_CHARS && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn unprintable_characters_are_replaced_and_not_removed() {
        assert_eq!(
            clean(&["hush"], "a\r\nb\u{1b}[31m hu\0sh \u{202e}\u{e9}"),
            "a  b?[31m hu?sh ??"
        );
        assert_eq!(clean(&[], &"\u{e9}".repeat(2000)).len(), MAX_CHARS);
        assert_eq!(clean(&[""], "as it was"), "as it was");
    }
}
