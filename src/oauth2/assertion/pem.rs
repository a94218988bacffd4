//! PEM (RFC 7468), read without leaving copies behind.

use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use super::unusable::Unusable;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// One block, not decoded.
pub(super) struct Block<'a> {
    pub(super) label: &'a str,
    body: &'a str,
}

/// All blocks of a text, whatever stands between them. Line ends may have become spaces, as they
/// do in a variable of an environment.
pub(super) fn blocks(text: &str) -> Result<Vec<Block<'_>>, Unusable> {
    if text.contains(BEGIN) && text.contains("\\n") {
        return Err(Unusable::EscapedLines);
    }
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once(BEGIN) {
        let (label, begun) = begun.split_once(DASHES).ok_or(Unusable::Cut)?;
        let (body, after) = begun.split_once(END).ok_or(Unusable::Cut)?;
        let (end, after) = after.split_once(DASHES).ok_or(Unusable::Cut)?;
        if end != label {
            return Err(Unusable::Cut);
        }
        blocks.push(Block { label, body });
        rest = after;
    }
    // The first line was not written whole.
    if blocks.is_empty() && !text.is_empty() && BEGIN.starts_with(text.trim()) {
        return Err(Unusable::Cut);
    }
    Ok(blocks)
}

// ===== impl Block =====

impl Block<'_> {
    /// Whether it is encrypted in the old way (RFC 1421 §4.6.1.1).
    pub(super) fn is_encrypted(&self) -> bool {
        self.body.contains("ENCRYPTED")
    }

    /// What is encoded; `None` if that is no base64.
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
    fn every_block_is_read_also_where_lines_have_become_spaces() {
        let both = vec![("A".to_owned(), vec![1, 2]), ("B C".to_owned(), vec![3])];
        assert_eq!(read(TWO), both);
        assert_eq!(read(&TWO.replace(['\r', '\n'], " ")), both);
        assert!(read("nothing of the kind").is_empty());
        assert!(blocks("-----BEGIN A-----\n*\n-----END A-----").unwrap()[0].der().is_none());
    }

    #[test]
    fn what_is_half_written_is_told_wherever_it_ends() {
        let one = "-----BEGIN A-----\nAQI=\n-----END A-----";
        for end in 1..one.len() {
            assert_eq!(blocks(&one[..end]).err(), Some(Unusable::Cut), "{end}");
        }
        assert_eq!(blocks(&one.replace("END A", "END B")).err(), Some(Unusable::Cut));
        assert_eq!(blocks(&one.replace('\n', "\\n")).err(), Some(Unusable::EscapedLines));
    }
}
