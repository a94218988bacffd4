//! Finds paths that could leave the part of the upstream that the configuration opens (path
//! traversal).
//!
//! Servers differ in how they read a path. Some decode it twice, cut off parameters, take a
//! backslash for a slash, or accept encodings that UTF-8 forbids. The sidecar refuses a path if any
//! of them could read a `.` or `..` segment in it.

/// How deep encodings may be nested. No honest client nests them deeper.
const MAX_DECODINGS: usize = 8;

/// Whether some server could read a segment of the path as `.` or `..`, or the path contains a
/// control character. Many servers stop reading at a control character, or skip it.
pub(crate) fn is_traversal(path: &str) -> bool {
    if path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'.' | b'%')) {
        return false;
    }
    let Some(path) = decoded(path.as_bytes()) else { return true };
    if path.iter().any(u8::is_ascii_control) {
        return true;
    }
    let path: Vec<char> = characters(&path).into_iter().map(normalized).collect();
    path.iter().any(|char| char.is_control()) || path.split(|char| *char == '/').any(is_dots)
}

/// Whether the segment is `.` or `..` for a server that cuts off parameters, a query, a fragment or
/// surrounding space.
fn is_dots(segment: &[char]) -> bool {
    let text: String = segment.iter().take_while(|char| !matches!(char, ';' | '?' | '#')).collect();
    // U+2025 is one character that normalizes to two dots.
    matches!(text.trim(), "." | ".." | "\u{2025}")
}

/// The fully decoded bytes; `None` if the encodings are nested too deep.
fn decoded(path: &[u8]) -> Option<Vec<u8>> {
    let mut path = path.to_vec();
    for _ in 0..=MAX_DECODINGS {
        let next = decoded_once(&path);
        if next.len() == path.len() {
            return Some(next);
        }
        path = next;
    }
    None
}

fn decoded_once(mut path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    while let Some((first, tail)) = path.split_first() {
        if let Some((byte, tail)) = encoded_byte(path) {
            decoded.push(byte);
            path = tail;
        } else if let Some((char, tail)) = encoded_char(path) {
            decoded.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            path = tail;
        } else {
            decoded.push(*first);
            path = tail;
        }
    }
    decoded
}

/// Decodes one byte like `%2e`.
fn encoded_byte(path: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, tail) = path.strip_prefix(b"%")?.split_at_checked(2)?;
    Some((u8::try_from(hex(digits)?).ok()?, tail))
}

/// Decodes a character like `%u002e`. No standard has this form, but some servers accept it.
fn encoded_char(path: &[u8]) -> Option<(char, &[u8])> {
    let path = path.strip_prefix(b"%u").or_else(|| path.strip_prefix(b"%U"))?;
    let (digits, tail) = path.split_at_checked(4)?;
    let char = char::from_u32(hex(digits)?).unwrap_or(char::REPLACEMENT_CHARACTER);
    Some((char, tail))
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}

/// Decodes UTF-8 as a careless server does: it accepts overlong forms, such as `C0 AE` for a dot.
/// A byte that begins no sequence stands for itself.
fn characters(mut bytes: &[u8]) -> Vec<char> {
    let mut characters = Vec::with_capacity(bytes.len());
    while let Some((first, tail)) = bytes.split_first() {
        let (more, bits) = match first {
            0xc0..=0xdf => (1, first & 0x1f),
            0xe0..=0xef => (2, first & 0x0f),
            0xf0..=0xf7 => (3, first & 0x07),
            // Of the first UTF-8 (RFC 2279), which had up to six bytes.
            0xf8..=0xfb => (4, first & 0x03),
            0xfc..=0xfd => (5, first & 0x01),
            _ => (0, *first),
        };
        let code = continued(u32::from(bits), tail, more);
        let code = code.or_else(|| unchecked(u32::from(bits), tail, more));
        let (code, used) = code.unwrap_or((u32::from(*first), 0));
        // A stray byte that is not ASCII is not a control character either.
        let is_stray = used == 0 && !first.is_ascii();
        let char = char::from_u32(code).filter(|_| !is_stray);
        characters.push(char.unwrap_or(char::REPLACEMENT_CHARACTER));
        bytes = &tail[used..];
    }
    characters
}

/// The character that begins with `bits` and continues in the next `more` bytes, and `more`.
fn continued(bits: u32, tail: &[u8], more: usize) -> Option<(u32, usize)> {
    let code = tail.get(..more)?.iter().try_fold(bits, |code, byte| {
        (byte & 0xc0 == 0x80).then_some(code << 6 | u32::from(byte & 0x3f))
    });
    Some((code?, more))
}

/// Some decoders do not check that the next bytes are continuations: `C0 2E`, `E0 40 AE`. Only an
/// overlong form gives one of these characters.
fn unchecked(bits: u32, tail: &[u8], more: usize) -> Option<(u32, usize)> {
    let tail = tail.get(..more).filter(|_| more > 0)?;
    let code = tail.iter().fold(bits, |code, byte| code << 6 | u32::from(byte & 0x3f));
    [b'.', b'/', b'\\'].map(u32::from).contains(&code).then_some((code, more))
}

/// The character that a server may read instead, because it treats a backslash as a slash,
/// normalizes Unicode, or converts to a smaller character set.
fn normalized(char: char) -> char {
    match char {
        '\\' | '\u{ff0f}' | '\u{ff3c}' | '\u{fe68}' | '\u{2044}' | '\u{2215}' | '\u{2216}' => '/',
        '\u{ff0e}' | '\u{fe52}' | '\u{2024}' => '.',
        '\u{ff1b}' => ';',
        char => char,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_found_in_every_spelling() {
        for path in [
            "/..",
            "/a/../b",
            "/./a",
            "/a/.",
            "/%2e%2E/",
            "/.%2e",
            "/a%2f..%2Fb",
            "/..%5cb",
            "/\\..\\",
            "/%5c..%5C",
        ] {
            assert!(is_traversal(path), "{path}");
        }
    }

    #[test]
    fn dots_before_a_parameter_are_a_traversal() {
        for path in [
            "/..;",
            "/..;/a",
            "/..;a=b/c",
            "/.;/a",
            "/%2e%2e%3b",
            "/%2e%2e%3b%2f",
            "/..%3Bx",
            "/;/..",
        ] {
            assert!(is_traversal(path), "{path}");
        }
        for path in ["/..%3fx", "/..%23", "/.%3F/a"] {
            assert!(is_traversal(path), "{path}");
        }
    }

    #[test]
    fn a_traversal_that_is_encoded_several_times_is_found() {
        for path in [
            "/%252e%252e",
            "/%252e%252e%252f",
            "/.%252e/a",
            "/%25252e.",
            "/%25%32%65%25%32%65",
            "/%%32e%%32e",
            "/..%252f",
            "/..%255c",
            "/%252e%252e%253b",
            "/%c0%252e%252e",
        ] {
            assert!(is_traversal(path), "{path}");
        }
        // Nested deeper than the limit.
        let path = format!("/%{}41", "25".repeat(1000));
        assert!(is_traversal(&path));
    }

    #[test]
    fn control_characters_and_spaces_do_not_hide_dots() {
        for path in [
            "/..%00",
            "/..%00.html",
            "/..%09",
            "/..%0a",
            "/%0d..",
            "/..%7f",
            "/.%00.",
            "/..%20",
            "/%20../a",
            "/..%c2%a0",
            "/..%c2%85",
            "/a%00b",
            "/a%2500",
            "/a%0a",
        ] {
            assert!(is_traversal(path), "{path}");
        }
    }

    #[test]
    fn overlong_and_fullwidth_dots_and_slashes_are_found() {
        for path in [
            "/%c0%ae%c0%ae",
            "/%C0%AE./a",
            "/%e0%80%ae%e0%80%ae",
            "/%f0%80%80%ae.",
            "/..%c0%af",
            "/..%c1%9c",
            "/%c0%2e%c0%2e",
            "/%u002e%u002e",
            "/..%u2215a",
            "/%uff0e%uff0e",
            "/%ef%bc%8e%ef%bc%8e",
            "/..%ef%bc%8fa",
            "/..%e2%88%95a",
            "/%e2%80%a5/a",
            "/..%c0%80",
            "/\u{ff0e}\u{ff0e}/a",
            "/%e0%40%ae%e0%40%ae/a",
            "/%f0%40%40%6e.",
            "/%f8%80%80%80%ae%f8%80%80%80%ae",
            "/%fc%80%80%80%80%ae.",
            "/..%fc%80%80%80%80%af",
            "/%c1%1ca",
        ] {
            assert!(is_traversal(path), "{path}");
        }
    }

    #[test]
    fn a_harmless_path_is_not_a_traversal() {
        for path in [
            "/",
            "//",
            "/a.b",
            "/...",
            "/a..",
            "/a..b",
            "/..a",
            "/.well-known/x",
            "/%20",
            "/%20x",
            "/v1.2/x",
            "/a;b=1",
            "/a;b=..",
            "/;b=1",
            "/a%2fb",
            "/a%252fb",
            "/100%25",
            "/%zz%",
            "/%u12",
            "/a%5cb",
            "/caf%c3%a9.txt",
            "/caf%e9.txt",
            "/%c0%20la%20carte",
            "/%e2%82%ac",
            "/%f0%9f%99%82",
            "/x:y@z!$&'()*+,=~_-",
            "/%e2%80%a6",
        ] {
            assert!(!is_traversal(path), "{path}");
        }
    }
}
