//! Reads a form (`application/x-www-form-urlencoded`) without leaving copies behind.

use zeroize::Zeroizing;

/// The names and values of a form.
pub(super) fn members(form: &[u8]) -> impl Iterator<Item = (Zeroizing<String>, Zeroizing<String>)> {
    let members = form.split(|byte| *byte == b'&').filter(|member| !member.is_empty());
    members.map(|member| {
        let mut parts = member.splitn(2, |byte| *byte == b'=');
        let mut part = || decoded(parts.next().unwrap_or_default());
        (part(), part())
    })
}

/// Decodes into a buffer that never grows: no byte is longer than its escape.
fn decoded(written: &[u8]) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(written.len()));
    let mut rest = written;
    while let Some((&first, after)) = rest.split_first() {
        let (byte, after) = match first {
            b'+' => (b' ', after),
            b'%' => escaped(after).unwrap_or((b'%', after)),
            other => (other, after),
        };
        bytes.push(byte);
        rest = after;
    }
    text(&bytes)
}

fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let (&[high, low], after) = text.split_first_chunk()?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some((digit(high)? << 4 | digit(low)?, after))
}

/// Replaces invalid UTF-8.
fn text(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().saturating_mul(3)));
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_browsers_read_it() {
        for form in [
            "a=b&c=d",
            "&&a&=b&c=&=",
            "a=b=c&a=+%20%2B&%61=%c3%a9",
            "a=%&b=%4&c=%zz&d=%+1",
            "a=%ff%c3&b=%f0%9f%94",
        ] {
            let expected: Vec<_> = url::form_urlencoded::parse(form.as_bytes()).collect();
            let found: Vec<_> = members(form.as_bytes()).collect();
            let found: Vec<_> =
                found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let expected: Vec<_> =
                expected.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!(found, expected, "{form}");
        }
    }
}
