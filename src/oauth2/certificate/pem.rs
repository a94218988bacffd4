//! The sections of a text in PEM (RFC 7468). A section is looked at no closer than at its label:
//! what is in it, rustls reads.

use super::unusable::Unusable;

const CERTIFICATE: &str = "CERTIFICATE";
/// PKCS #8, PKCS #1 and SEC 1.
const KEYS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
/// How PKCS #1 and SEC 1 say that they are encrypted (RFC 1421 §4.6.1.1).
const PROC_TYPE: &str = "Proc-Type: 4,ENCRYPTED";

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

struct Section<'a> {
    label: &'a str,
    /// With the lines at which it begins and ends.
    whole: &'a str,
}

/// The certificates, in their order.
pub(super) fn certificates(text: &str) -> Result<Vec<&str>, Unusable> {
    let sections = sections(text).ok_or(HALF_A_CERTIFICATE)?;
    let found = sections.iter().filter(|section| section.label == CERTIFICATE);
    let found: Vec<_> = found.map(|section| section.whole).collect();
    if found.is_empty() { Err(NO_CERTIFICATE) } else { Ok(found) }
}

/// The one key.
pub(super) fn key(text: &str) -> Result<&str, Unusable> {
    let sections = sections(text).ok_or(HALF_A_KEY)?;
    if sections.iter().any(Section::is_encrypted) {
        return Err(ENCRYPTED_KEY);
    }
    let mut keys = sections.iter().filter(|section| KEYS.contains(&section.label));
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key.whole),
        (Some(_), Some(_)) => Err(SEVERAL_KEYS),
        (None, _) => Err(NO_KEY),
    }
}

const HALF_A_CERTIFICATE: Unusable = Unusable {
    problem: "ends in the middle of a certificate: a half-written file?",
    may_pass: true,
};
const HALF_A_KEY: Unusable =
    Unusable { problem: "ends in the middle of its key: a half-written file?", may_pass: true };
const NO_CERTIFICATE: Unusable = Unusable {
    problem: "holds no certificate in PEM: give the text with its `-----BEGIN CERTIFICATE-----`, \
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
    problem: "has a key that is encrypted: decrypt it, as by `openssl pkey`, and guard the file",
    may_pass: false,
};

/// All sections; `None` if one does not end.
fn sections(text: &str) -> Option<Vec<Section<'_>>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once(BEGIN) {
        let (label, content) = begun.split_once(DASHES)?;
        let end = format!("-----END {label}-----");
        let (content, after) = content.split_once(end.as_str())?;
        let length = BEGIN.len() + label.len() + DASHES.len() + content.len() + end.len();
        let start = text.len() - (begun.len() + BEGIN.len());
        found.push(Section { label, whole: text.get(start..start + length)? });
        rest = after;
    }
    Some(found)
}

// ===== impl Section =====

impl Section<'_> {
    fn is_encrypted(&self) -> bool {
        self.label == ENCRYPTED || (KEYS.contains(&self.label) && self.whole.contains(PROC_TYPE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(label: &str, content: &str) -> String {
        format!("-----BEGIN {label}-----\n{content}\n-----END {label}-----")
    }

    #[test]
    fn only_certificates_are_taken_as_such_and_in_their_order() {
        let (leaf, issuer) = (section("CERTIFICATE", "AA=="), section("CERTIFICATE", "BB=="));
        let key = section("PRIVATE KEY", "CC==");
        let text = format!("# ours\r\n{leaf}\r\n{key}\nétoile {issuer} tail");
        assert_eq!(certificates(&text), Ok(vec![&*leaf, &*issuer]));
        for text in ["", "/etc/tls/client.pem", &key, &section("TRUSTED CERTIFICATE", "AA==")] {
            assert_eq!(certificates(text), Err(NO_CERTIFICATE), "{text}");
        }
    }

    #[test]
    fn a_key_is_one_of_three_kinds_and_the_only_one() {
        for label in KEYS {
            let key = section(label, "CC==");
            let text = format!("{}\n{key}\n", section("EC PARAMETERS", "AA=="));
            assert_eq!(super::key(&text), Ok(&*key));
        }
        let one = section("PRIVATE KEY", "CC==");
        assert_eq!(key(&format!("{one}\n{one}")), Err(SEVERAL_KEYS));
        for text in ["", "/etc/tls/client.key", &section("PUBLIC KEY", "AA==")] {
            assert_eq!(key(text), Err(NO_KEY), "{text}");
        }
    }

    #[test]
    fn an_encrypted_key_is_told_by_its_label_or_its_header() {
        assert_eq!(key(&section(ENCRYPTED, "CC==")), Err(ENCRYPTED_KEY));
        let old = section("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: X\n\nCC==");
        assert_eq!(key(&old), Err(ENCRYPTED_KEY));
    }

    #[test]
    fn what_ends_in_the_middle_may_just_be_written() {
        for (label, read) in [
            ("CERTIFICATE", (|text| certificates(text).map(drop)) as fn(&str) -> _),
            ("PRIVATE KEY", |text| key(text).map(drop)),
        ] {
            let whole = section(label, "AA==");
            for length in BEGIN.len()..whole.len() {
                let error = read(&whole[..length]).unwrap_err();
                assert!(error.may_pass && error.problem.contains("half-written"), "{length}");
            }
            read(&whole).unwrap();
        }
    }
}
