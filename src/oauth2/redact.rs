//! What a stranger says, made fit to be shown (RFC 6749 §5.2): printable ASCII, bounded, and
//! without our secrets, however they are spelled.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

/// How many characters of a text are kept.
const MAX_CHARS: usize = 512;
/// Stands where a secret stood. It has no letter that a short secret could match in turn.
const MARK: &str = "***";

/// Knows the secrets that must not be shown.
#[derive(Default)]
pub(super) struct Redactor {
    spellings: Vec<Zeroizing<String>>,
}

// ===== impl Redactor =====

impl Redactor {
    /// Adds a secret, in every spelling that an echo of our request could have.
    pub(super) fn strike(&mut self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        let form = Zeroizing::new(byte_serialize(secret.as_bytes()).collect::<String>());
        let percent = Zeroizing::new(form.replace('+', "%20"));
        let json = serde_json::to_string(secret).expect("a text is JSON, and memory takes it");
        let json = Zeroizing::new(json);
        let filtered = Zeroizing::new(secret.chars().map(printable).collect::<String>());
        let lowered = [&form, &percent].map(|text| Zeroizing::new(lower_escapes(text)));
        self.spellings.extend(lowered);
        self.spellings.extend([
            Zeroizing::new(BASE64_STANDARD_NO_PAD.encode(secret)),
            Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(secret)),
            Zeroizing::new(json[1..json.len() - 1].to_owned()),
            Zeroizing::new(secret.to_owned()),
            filtered,
            percent,
            form,
        ]);
    }

    /// The text with every secret struck out, in printable ASCII, 512 characters at most.
    ///
    /// All places are found before any is replaced, so that neither secrets that overlap nor
    /// the cut at the end leave a part of one behind.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut is_secret = vec![false; text.len()];
        for spelling in &self.spellings {
            for (at, found) in text.match_indices(spelling.as_str()) {
                is_secret[at..at + found.len()].fill(true);
            }
        }
        let mut clean = String::new();
        let mut after_secret = false;
        for (at, character) in text.char_indices() {
            match (is_secret[at], after_secret) {
                (true, false) => clean.push_str(MARK),
                (true, true) => {}
                (false, _) => clean.push(printable(character)),
            }
            after_secret = is_secret[at];
            if clean.len() >= MAX_CHARS {
                break;
            }
        }
        clean.truncate(MAX_CHARS);
        clean
    }
}

/// Replaced, not removed: what stood apart must not join up to a secret.
fn printable(character: char) -> char {
    match character {
        ' '..='~' => character,
        '\t' | '\r' | '\n' => ' ',
        _ => '?',
    }
}

/// `%2F` as `%2f`, which some servers write.
fn lower_escapes(text: &str) -> String {
    let mut rest_of_escape = 0_u8;
    let lower = |character: char| {
        if character == '%' {
            rest_of_escape = 2;
            return character;
        }
        let in_escape = rest_of_escape > 0;
        rest_of_escape = rest_of_escape.saturating_sub(1);
        if in_escape { character.to_ascii_lowercase() } else { character }
    };
    text.chars().map(lower).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(secrets: &[&str], text: &str) -> String {
        let mut redactor = Redactor::default();
        for secret in secrets {
            redactor.strike(secret);
        }
        redactor.clean(text)
    }

    #[test]
    fn a_secret_is_struck_out_in_every_spelling() {
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

    #[test]
    fn secrets_that_overlap_or_sit_in_one_another_leave_nothing() {
        assert_eq!(clean(&["abcd", "cdef", "cd"], "<abcdef> <cd>"), "<***> <***>");
        assert_eq!(clean(&["a", "*"], "a*b"), "***b");
    }

    #[test]
    fn a_cut_leaves_no_part_of_a_secret() {
        let text = format!("{}hush-hush", "x".repeat(MAX_CHARS - 4));
        let shown = clean(&["hush-hush"], &text);
        assert!(shown.len() <= MAX_CHARS && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn what_is_not_printable_ascii_is_replaced_and_joins_nothing_up() {
        assert_eq!(
            clean(&["hush"], "a\r\nb\u{1b}[31m hu\0sh \u{202e}\u{e9}"),
            "a  b?[31m hu?sh ??"
        );
        assert_eq!(clean(&[], &"\u{e9}".repeat(2000)).len(), MAX_CHARS);
        assert_eq!(clean(&[""], "as it was"), "as it was");
    }
}
