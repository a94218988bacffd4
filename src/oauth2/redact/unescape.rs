//! Undoes escapes: percent-encoding, HTML, JSON.
//!
//! A server that echoes a request escapes it in any way: some bytes or all, in lower or upper case,
//! by name or by number, once or several times. So the search is not for the spellings of a secret:
//! it unescapes the text, and searches for the secret itself. Each byte remembers where it came
//! from.

use std::ops::Range;

use zeroize::Zeroizing;

/// The longest supported reference: `&UnderBar;` and `&#x0000000041;` are not longer.
const MAX_REFERENCE: usize = 16;

/// A kind of escaping. Each is undone by itself: a backslash in an HTML page is only a backslash.
#[derive(Clone, Copy, Debug)]
pub(super) enum Escaping {
    /// `%2F` (RFC 3986 §2.1).
    Percent,
    /// Percent-encoding with `+` for a space.
    Form,
    Html,
    /// JSON, JavaScript and similar.
    Backslash,
}

/// A text, with the position of each of its bytes in the original text.
pub(super) struct Unescaped {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    origins: Vec<Range<usize>>,
}

// ===== impl Unescaped =====

impl Unescaped {
    /// The original text.
    pub(super) fn new(text: &str) -> Self {
        Self {
            bytes: Zeroizing::new(text.as_bytes().to_vec()),
            origins: (0..text.len()).zip(1..).map(|(at, next)| at..next).collect(),
        }
    }

    /// The range in the original text of `length` bytes of this text, from `from`.
    pub(super) fn origin(&self, from: usize, length: usize) -> Range<usize> {
        let mut piece = self.origins.iter().skip(from).take(length);
        let Some(first) = piece.next() else { return 0..0 };
        first.start..piece.next_back().unwrap_or(first).end
    }

    /// The text with one layer of escapes undone; `None` if there is none.
    pub(super) fn undo(&self, escaping: Escaping) -> Option<Self> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.bytes.len()));
        let mut origins = Vec::with_capacity(self.bytes.len());
        let mut at = 0;
        let mut is_changed = false;
        while let Some((first, _)) = self.bytes.get(at..).and_then(<[u8]>::split_first) {
            let escape = escaping.read(self.bytes.get(at..).unwrap_or_default());
            is_changed |= escape.is_some();
            let (length, unit) = escape.unwrap_or((1, Unit::Byte(*first)));
            unit.push(&mut bytes, &mut origins, &self.origin(at, length));
            at = at.saturating_add(length);
        }
        is_changed.then_some(Self { bytes, origins })
    }
}

// ===== impl Escaping =====

impl Escaping {
    pub(super) const ALL: [Self; 4] = [Self::Percent, Self::Form, Self::Html, Self::Backslash];

    /// The escape at the beginning of a text: its length and its value.
    fn read(self, text: &[u8]) -> Option<(usize, Unit)> {
        let (first, after) = text.split_first()?;
        let (length, unit) = match (self, first) {
            (Self::Percent | Self::Form, b'%') => percent(after)?,
            (Self::Form, b'+') => (0, Unit::Byte(b' ')),
            (Self::Html, b'&') => reference(after)?,
            (Self::Backslash, b'\\') => backslash(after)?,
            _ => return None,
        };
        Some((length.saturating_add(1), unit))
    }
}

/// The value of an escape.
#[derive(Clone, Copy)]
enum Unit {
    Byte(u8),
    Char(char),
}

// ===== impl Unit =====

impl Unit {
    /// A `char` is at most as long in UTF-8 as its escape, so the vectors do not grow.
    fn push(self, bytes: &mut Vec<u8>, origins: &mut Vec<Range<usize>>, origin: &Range<usize>) {
        let mut room = [0; 4];
        let written = match self {
            Self::Byte(byte) => {
                room[0] = byte;
                &room[..1]
            }
            Self::Char(character) => character.encode_utf8(&mut room).as_bytes(),
        };
        bytes.extend_from_slice(written);
        origins.extend(written.iter().map(|_| origin.clone()));
    }
}

// ===== The escapes =====

/// `%2F` (RFC 3986 §2.1), or the `%u002F` of old scripts.
fn percent(text: &[u8]) -> Option<(usize, Unit)> {
    match text.first()? {
        b'u' | b'U' => Some((5, Unit::Char(char::from_u32(hex(text.get(1..5)?)?)?))),
        _ => Some((2, Unit::Byte(u8::try_from(hex(text.get(..2)?)?).ok()?))),
    }
}

/// `&amp;`, `&#38;` or `&#x26;`; browsers accept them without the `;` too.
fn reference(text: &[u8]) -> Option<(usize, Unit)> {
    let name = |is_part: fn(&u8) -> bool, from: usize| {
        let (_, remaining) = text.split_at_checked(from)?;
        let near = remaining.iter().take(MAX_REFERENCE.saturating_sub(from));
        let length = near.take_while(|byte| is_part(byte)).count();
        let (name, after) = remaining.split_at_checked(length).filter(|_| length > 0)?;
        let semicolon = usize::from(after.starts_with(b";"));
        Some((name, from.saturating_add(length).saturating_add(semicolon)))
    };
    let (code, length) = match text {
        [b'#', b'x' | b'X', ..] => {
            let (digits, length) = name(u8::is_ascii_hexdigit, 2)?;
            (hex(digits)?, length)
        }
        [b'#', ..] => {
            let (digits, length) = name(u8::is_ascii_digit, 1)?;
            (std::str::from_utf8(digits).ok()?.parse().ok()?, length)
        }
        _ => {
            let (name, length) = name(u8::is_ascii_alphanumeric, 0)?;
            (named(name)?, length)
        }
    };
    Some((length, Unit::Char(char::from_u32(code)?)))
}

/// The escapes of JSON and JavaScript: `\/`, `\n`, `\x2f`, `\u002f`, a pair of the latter.
fn backslash(text: &[u8]) -> Option<(usize, Unit)> {
    let (first, after) = text.split_first()?;
    let character = match first {
        b'u' => return utf16(after),
        b'x' => return Some((3, Unit::Char(char::from_u32(hex(text.get(1..3)?)?)?))),
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'v' => '\u{b}',
        b'0' => '\0',
        punctuation if punctuation.is_ascii_punctuation() => char::from(*punctuation),
        _ => return None,
    };
    Some((1, Unit::Char(character)))
}

fn utf16(text: &[u8]) -> Option<(usize, Unit)> {
    let unit = |digits| u16::try_from(hex(digits)?).ok();
    let first = unit(text.get(..4)?)?;
    if let Some(character) = char::from_u32(first.into()) {
        return Some((5, Unit::Char(character)));
    }
    let second = if text.get(4..6)? == b"\\u" { unit(text.get(6..10)?)? } else { return None };
    let character = char::decode_utf16([first, second]).next()?.ok()?;
    Some((11, Unit::Char(character)))
}

fn hex(digits: &[u8]) -> Option<u32> {
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
    u32::from_str_radix(digits, 16).ok()
}

// ===== Names =====

/// The HTML names of ASCII punctuation.
const PUNCTUATION: [(&str, char); 46] = [
    ("Tab", '\t'),
    ("NewLine", '\n'),
    ("excl", '!'),
    ("quot", '"'),
    ("QUOT", '"'),
    ("num", '#'),
    ("dollar", '$'),
    ("percnt", '%'),
    ("amp", '&'),
    ("AMP", '&'),
    ("apos", '\''),
    ("lpar", '('),
    ("rpar", ')'),
    ("ast", '*'),
    ("midast", '*'),
    ("plus", '+'),
    ("comma", ','),
    ("period", '.'),
    ("sol", '/'),
    ("colon", ':'),
    ("semi", ';'),
    ("lt", '<'),
    ("LT", '<'),
    ("equals", '='),
    ("gt", '>'),
    ("GT", '>'),
    ("quest", '?'),
    ("commat", '@'),
    ("lsqb", '['),
    ("lbrack", '['),
    ("bsol", '\\'),
    ("rsqb", ']'),
    ("rbrack", ']'),
    ("Hat", '^'),
    ("lowbar", '_'),
    ("UnderBar", '_'),
    ("grave", '`'),
    ("lcub", '{'),
    ("lbrace", '{'),
    ("verbar", '|'),
    ("vert", '|'),
    ("rcub", '}'),
    ("rbrace", '}'),
    ("hyphen", '-'),
    ("dash", '-'),
    ("tilde", '~'),
];

/// The HTML names of the characters from U+00A0 to U+00FF, in order.
const LATIN: [&str; 96] = [
    "nbsp", "iexcl", "cent", "pound", "curren", "yen", "brvbar", "sect", "uml", "copy", "ordf",
    "laquo", "not", "shy", "reg", "macr", "deg", "plusmn", "sup2", "sup3", "acute", "micro",
    "para", "middot", "cedil", "sup1", "ordm", "raquo", "frac14", "frac12", "frac34", "iquest",
    "Agrave", "Aacute", "Acirc", "Atilde", "Auml", "Aring", "AElig", "Ccedil", "Egrave", "Eacute",
    "Ecirc", "Euml", "Igrave", "Iacute", "Icirc", "Iuml", "ETH", "Ntilde", "Ograve", "Oacute",
    "Ocirc", "Otilde", "Ouml", "times", "Oslash", "Ugrave", "Uacute", "Ucirc", "Uuml", "Yacute",
    "THORN", "szlig", "agrave", "aacute", "acirc", "atilde", "auml", "aring", "aelig", "ccedil",
    "egrave", "eacute", "ecirc", "euml", "igrave", "iacute", "icirc", "iuml", "eth", "ntilde",
    "ograve", "oacute", "ocirc", "otilde", "ouml", "divide", "oslash", "ugrave", "uacute", "ucirc",
    "uuml", "yacute", "thorn", "yuml",
];

fn named(name: &[u8]) -> Option<u32> {
    let mut latin = LATIN.iter().zip(0xa0..);
    let punctuation = PUNCTUATION.iter().find(|(known, _)| known.as_bytes() == name);
    let punctuation = punctuation.map(|(_, character)| u32::from(*character));
    punctuation.or_else(|| Some(latin.find(|(known, _)| known.as_bytes() == name)?.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(found: Option<(usize, Unit)>) -> Option<(usize, char)> {
        found.map(|(length, unit)| match unit {
            Unit::Byte(byte) => (length, char::from(byte)),
            Unit::Char(character) => (length, character),
        })
    }

    #[test]
    fn every_escape_of_a_script_is_known_and_its_length() {
        for (text, found) in [
            (&b"nx"[..], Some((1, '\n'))),
            (b"rx", Some((1, '\r'))),
            (b"tx", Some((1, '\t'))),
            (b"bx", Some((1, '\u{8}'))),
            (b"fx", Some((1, '\u{c}'))),
            (b"vx", Some((1, '\u{b}'))),
            (b"0x", Some((1, '\0'))),
            (b"/x", Some((1, '/'))),
            (b"\"x", Some((1, '"'))),
            (b"x2fx", Some((3, '/'))),
            (b"u002fx", Some((5, '/'))),
            (b"ud83d\\ude00x", Some((11, '\u{1f600}'))),
            (b"qx", None),
            (b"\xe9", None),
            (b"x2", None),
            (b"xgg", None),
            (b"u00", None),
            (b"ud83dx", None),
            (b"", None),
        ] {
            assert_eq!(read(backslash(text)), found, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn both_kinds_of_percent_escapes_are_known() {
        for (text, found) in [
            (&b"2Fx"[..], Some((2, '/'))),
            (b"2fx", Some((2, '/'))),
            (b"u002Fx", Some((5, '/'))),
            (b"U002Fx", Some((5, '/'))),
            (b"u002", None),
            (b"2", None),
            (b"g0", None),
        ] {
            assert_eq!(read(percent(text)), found, "{}", text.escape_ascii());
        }
    }
}
