//! PEM (RFC 7468), read and written without leaving copies behind.

use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// One block, not decoded.
pub(super) struct Block<'a> {
    pub(super) label: &'a str,
    body: &'a str,
}

/// Why a text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// The text ends too early.
    Cut,
    /// The text has `\n` in place of line ends.
    EscapedLines,
}

/// All blocks of a text, with any text between them. Line ends may have become spaces, as happens
/// in an environment variable.
pub(super) fn blocks(text: &str) -> Result<Vec<Block<'_>>, Malformed> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once(BEGIN) {
        let (label, begun) = begun.split_once(DASHES).ok_or(Malformed::Cut)?;
        let (body, after) = begun.split_once(END).ok_or(Malformed::Cut)?;
        // Only here: in the text around it, a backslash may be a part of a name.
        if body.contains("\\n") {
            return Err(Malformed::EscapedLines);
        }
        let (end, after) = after.split_once(DASHES).ok_or(Malformed::Cut)?;
        if end != label {
            return Err(Malformed::Cut);
        }
        blocks.push(Block { label, body });
        rest = after;
    }
    // The first line is incomplete.
    if blocks.is_empty() && !text.is_empty() && BEGIN.starts_with(text.trim()) {
        return Err(Malformed::Cut);
    }
    Ok(blocks)
}

// ===== impl Block =====

impl Block<'_> {
    pub(super) fn is_certificate(&self) -> bool {
        self.label == "CERTIFICATE"
    }

    /// Whether it is a private key of any kind.
    pub(super) fn is_private_key(&self) -> bool {
        self.label.ends_with("PRIVATE KEY")
    }

    /// Whether it is an encrypted key, in the new or the old format (RFC 1421 §4.6.1.1).
    pub(super) fn is_encrypted(&self) -> bool {
        let is_old = || self.is_private_key() && self.body.contains("Proc-Type: 4,ENCRYPTED");
        self.label == "ENCRYPTED PRIVATE KEY" || is_old()
    }

    /// The decoded contents; `None` if they are not base64.
    pub(super) fn der(&self) -> Option<Zeroizing<Vec<u8>>> {
        let mut encoded = Zeroizing::new(Vec::with_capacity(self.body.len()));
        encoded.extend(self.body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
        decoded(&BASE64_STANDARD, &encoded)
    }
}

/// Decodes into memory that is wiped and does not grow.
pub(super) fn decoded(engine: &impl Engine, encoded: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(encoded.len())]);
    let length = engine.decode_slice(encoded, &mut bytes).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

/// Writes the blocks as one text, with line ends restored.
#[cfg(feature = "reqwest")]
pub(super) fn text(blocks: &[&Block<'_>]) -> Zeroizing<String> {
    const MARKS: usize = BEGIN.len() + END.len() + 2 * DASHES.len() + 4;
    // Reserve the whole length: a text that grows leaves copies of a key behind.
    #[expect(clippy::arithmetic_side_effects, reason = "lengths in memory do not overflow")]
    let length = |block: &&Block<'_>| 2 * block.label.len() + block.body.len() + MARKS;
    let length = blocks.iter().map(length).sum();
    let mut text = Zeroizing::new(String::with_capacity(length));
    for Block { label, body } in blocks {
        let begin = [BEGIN, label, DASHES, "\n"];
        let lines = body.split_ascii_whitespace().flat_map(|line| [line, "\n"]);
        let end = [END, label, DASHES, "\n"];
        text.extend(begin.into_iter().chain(lines).chain(end));
    }
    debug_assert!(text.len() <= length, "the text has grown");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "text\n-----BEGIN A-----\nAQI=\n-----END A-----\r\n-----BEGIN B C-----\r\nAw==\r\n\
                       -----END B C-----\n";

    fn read(text: &str) -> Vec<(String, Vec<u8>)> {
        let blocks = blocks(text).unwrap();
        let read = |block: &Block<'_>| (block.label.to_owned(), block.der().unwrap().to_vec());
        blocks.iter().map(read).collect()
    }

    #[test]
    fn every_block_is_read_even_if_line_ends_have_become_spaces() {
        let both = vec![("A".to_owned(), vec![1, 2]), ("B C".to_owned(), vec![3])];
        assert_eq!(read(TWO), both);
        assert_eq!(read(&TWO.replace(['\r', '\n'], " ")), both);
        assert!(read("nothing of the kind").is_empty());
        assert!(blocks("-----BEGIN A-----\n*\n-----END A-----").unwrap()[0].der().is_none());
    }

    #[test]
    fn a_backslash_in_the_text_around_a_block_does_not_matter() {
        let attributes = "Bag Attributes\n    friendlyName: CORP\\nancy\n";
        assert!(attributes.contains("\\n"));
        let both = vec![("A".to_owned(), vec![1, 2]), ("B C".to_owned(), vec![3])];
        assert_eq!(read(&format!("{attributes}{TWO}{attributes}")), both);
    }

    #[test]
    fn a_truncated_block_is_detected_at_any_position() {
        let one = "-----BEGIN A-----\nAQI=\n-----END A-----";
        for end in 1..one.len() {
            assert_eq!(blocks(&one[..end]).err(), Some(Malformed::Cut), "{end}");
        }
        assert_eq!(blocks(&one.replace("END A", "END B")).err(), Some(Malformed::Cut));
        assert_eq!(blocks(&one.replace('\n', "\\n")).err(), Some(Malformed::EscapedLines));
    }

    #[test]
    fn an_encrypted_key_is_recognized_by_its_label_or_its_header() {
        for (label, body, expected) in [
            ("ENCRYPTED PRIVATE KEY", "CC==", true),
            ("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: X\n\nCC==", true),
            ("PRIVATE KEY", "CC==", false),
            ("CERTIFICATE", "Proc-Type: 4,ENCRYPTED", false),
        ] {
            let text = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----");
            assert_eq!(blocks(&text).unwrap()[0].is_encrypted(), expected, "{label}");
        }
    }

    #[cfg(feature = "reqwest")]
    #[test]
    fn blocks_are_written_in_lines_without_growing_the_text() {
        let lines = "-----BEGIN A-----\nAQI=\nAw==\n-----END A-----\n";
        let spaces = lines.replace('\n', " ");
        for read in [lines, &spaces, "-----BEGIN A-----AQI= Aw==-----END A-----"] {
            let blocks = blocks(read).unwrap();
            let written = text(&blocks.iter().chain(&blocks).collect::<Vec<_>>());
            assert_eq!(*written, lines.repeat(2));
        }
    }
}
