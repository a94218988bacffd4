//! How a secret may be written.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};

/// A secret as it is, in base64 wherever it stands in what is encoded, in hexadecimal digits, and
/// escaped for a form, for JSON and by `Debug`.
pub(crate) fn spellings(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut spellings = vec![("raw", secret.to_vec())];
    for skipped in 0..3 {
        // Whatever stood before it, the characters from here on are the secret's alone.
        let whole = &secret[skipped..];
        let whole = &whole[..whole.len() / 3 * 3];
        let standard = BASE64_STANDARD_NO_PAD.encode(whole);
        for encoded in [standard, BASE64_URL_SAFE_NO_PAD.encode(whole)] {
            spellings.push(("base64", encoded.into_bytes()));
        }
    }
    let each = |write: &dyn Fn(&u8) -> String| secret.iter().map(write).collect::<String>();
    let percent = |byte: &u8| match byte {
        b'*' | b'-' | b'.' | b'_' => char::from(*byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    spellings.push(("form", each(&percent).into_bytes()));
    spellings.push(("form", each(&|byte| percent(byte).to_lowercase()).into_bytes()));
    spellings.push(("form", each(&percent).replace("%20", "+").into_bytes()));
    spellings.push(("hexadecimal", each(&|byte| format!("{byte:02x}")).into_bytes()));
    spellings.push(("hexadecimal", each(&|byte| format!("{byte:02X}")).into_bytes()));
    spellings.push(("numbers", format!("{secret:?}").trim_matches(['[', ']']).into()));
    spellings.push(("Debug of bytes", secret.escape_ascii().to_string().into_bytes()));
    if let Ok(text) = std::str::from_utf8(secret) {
        let json = serde_json::to_string(text).unwrap();
        spellings.push(("JSON", json.as_bytes()[1..json.len() - 1].to_vec()));
        let debug = format!("{text:?}");
        spellings.push(("Debug", debug.as_bytes()[1..debug.len() - 1].to_vec()));
    }
    spellings
}
