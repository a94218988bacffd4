//! Finds certificates or a key in a text by the labels of the blocks. rustls parses their contents.

use super::{
    super::pem::{self, Block, Malformed},
    unusable::Unusable,
};

/// PKCS #8, PKCS #1 and SEC 1.
const KEYS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

/// The certificates in order, at least one.
pub(super) fn certificates(text: &str) -> Result<Vec<Block<'_>>, Unusable> {
    let mut found = blocks(text, HALF_A_CERTIFICATE)?;
    found.retain(Block::is_certificate);
    if found.is_empty() { Err(NO_CERTIFICATE) } else { Ok(found) }
}

/// The only private key.
pub(super) fn key(text: &str) -> Result<Block<'_>, Unusable> {
    let blocks = blocks(text, HALF_A_KEY)?;
    if blocks.iter().any(Block::is_encrypted) {
        return Err(ENCRYPTED_KEY);
    }
    let mut keys = blocks.into_iter().filter(|block| KEYS.contains(&block.label));
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key),
        (Some(_), Some(_)) => Err(SEVERAL_KEYS),
        (None, _) => Err(NO_KEY),
    }
}

fn blocks(text: &str, half: Unusable) -> Result<Vec<Block<'_>>, Unusable> {
    pem::blocks(text).map_err(|malformed| match malformed {
        Malformed::Cut => half,
        Malformed::EscapedLines => ESCAPED_LINES,
    })
}

const HALF_A_CERTIFICATE: Unusable = Unusable {
    problem: "ends in the middle of a certificate: a half-written file?",
    may_pass: true,
};
const HALF_A_KEY: Unusable =
    Unusable { problem: "ends in the middle of the key: a half-written file?", may_pass: true };
const ESCAPED_LINES: Unusable = Unusable {
    problem: "contains a literal `\\n`: PEM needs real line ends, or spaces",
    may_pass: false,
};
const NO_CERTIFICATE: Unusable = Unusable {
    problem: "holds no PEM certificate: give the text with its `-----BEGIN CERTIFICATE-----`, \
              or `Secret::file(..)` for a path",
    may_pass: false,
};
const NO_KEY: Unusable = Unusable {
    problem: "has no private key in PEM: give the text with its `-----BEGIN PRIVATE KEY-----`, or \
              `Secret::file(..)` for a path",
    may_pass: false,
};
const SEVERAL_KEYS: Unusable =
    Unusable { problem: "has more than one private key", may_pass: false };
const ENCRYPTED_KEY: Unusable = Unusable {
    problem: "has a key that is encrypted: decrypt it, for example with `openssl pkey`",
    may_pass: false,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn section(label: &str, content: &str) -> String {
        format!("-----BEGIN {label}-----\n{content}\n-----END {label}-----")
    }

    fn der(block: &Block<'_>) -> u8 {
        block.der().unwrap()[0]
    }

    #[test]
    fn certificates_are_found_in_order_and_other_blocks_are_ignored() {
        let (leaf, issuer) = (section("CERTIFICATE", "AQ=="), section("CERTIFICATE", "Ag=="));
        let key = section("PRIVATE KEY", "Aw==");
        let text = format!("# ours\r\n{leaf}\r\n{key}\nétoile {issuer} tail");
        assert_eq!(certificates(&text).unwrap().iter().map(der).collect::<Vec<_>>(), [1, 2]);
        for text in ["", "/etc/tls/client.pem", &key, &section("TRUSTED CERTIFICATE", "AA==")] {
            assert_eq!(certificates(text).err(), Some(NO_CERTIFICATE), "{text}");
        }
    }

    #[test]
    fn a_key_is_one_of_three_kinds_and_the_only_one() {
        for label in KEYS {
            let key = section(label, "Aw==");
            let text = format!("{}\n{key}\n", section("EC PARAMETERS", "AA=="));
            assert_eq!(super::key(&text).map(|key| der(&key)), Ok(3));
        }
        let one = section("PRIVATE KEY", "CC==");
        assert_eq!(key(&format!("{one}\n{one}")).err(), Some(SEVERAL_KEYS));
        for text in ["", "/etc/tls/client.key", &section("PUBLIC KEY", "AA==")] {
            assert_eq!(key(text).err(), Some(NO_KEY), "{text}");
        }
        assert_eq!(key(&section("ENCRYPTED PRIVATE KEY", "CC==")).err(), Some(ENCRYPTED_KEY));
    }

    #[test]
    fn a_truncated_text_counts_as_half_written() {
        for (label, read) in [
            ("CERTIFICATE", (|text| certificates(text).map(drop)) as fn(&str) -> _),
            ("PRIVATE KEY", |text| key(text).map(drop)),
        ] {
            let whole = section(label, "AA==");
            for length in 1..whole.len() {
                let error = read(&whole[..length]).unwrap_err();
                assert!(error.may_pass && error.problem.contains("half-written"), "{length}");
            }
            read(&whole).unwrap();
            assert_eq!(read(&whole.replace('\n', "\\n")), Err(ESCAPED_LINES));
        }
    }
}
