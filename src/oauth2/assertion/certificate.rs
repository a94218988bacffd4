//! The certificate of a key (RFC 7515 §4.1.6 and §4.1.8), as much as matters here.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};

use super::{der::Reader, pem, unusable::Unusable};

const BIT_STRING: u8 = 0x03;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version, which the first certificates did not have.
const VERSION: u8 = 0xa0;

/// A certificate and what it was issued by, as a file has them: the key's own first.
pub(super) struct Certificates {
    chain: Vec<Vec<u8>>,
    own: Own,
}

/// What the first one says.
#[derive(Debug, PartialEq)]
struct Own {
    public_key: Vec<u8>,
    /// Seconds since 1970.
    expires: u64,
}

// ===== impl Certificates =====

impl Certificates {
    /// Reads all certificates of a text, in which there may be a key too.
    pub(super) fn parse(text: &str) -> Result<Self, Unusable> {
        let mut chain = Vec::new();
        for block in pem::blocks(text)?.iter().filter(|block| block.label == "CERTIFICATE") {
            chain.push(block.der().ok_or(Unusable::BrokenCertificate)?.to_vec());
        }
        let own = own(chain.first().ok_or(Unusable::NoCertificate)?);
        Ok(Self { own: own.ok_or(Unusable::BrokenCertificate)?, chain })
    }

    /// Whether it is still good; and if the key is known, whether it is the key's.
    pub(super) fn check(&self, public_key: Option<&[u8]>, now: u64) -> Result<(), Unusable> {
        if public_key.is_some_and(|public_key| public_key != self.own.public_key) {
            return Err(Unusable::OtherCertificate);
        }
        if self.own.expires < now { Err(Unusable::ExpiredCertificate) } else { Ok(()) }
    }

    /// `x5t#S256`.
    pub(super) fn thumbprint(&self) -> Option<String> {
        let own = self.chain.first()?;
        Some(BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, own)))
    }

    /// `x5c`.
    pub(super) fn chain(&self) -> Vec<String> {
        self.chain.iter().map(|der| BASE64_STANDARD.encode(der)).collect()
    }
}

/// RFC 5280 §4.1.
fn own(der: &[u8]) -> Option<Own> {
    let mut signed = Reader::new(der).sequence()?.sequence()?;
    let (first, _) = signed.any()?;
    if first == VERSION {
        // The serial number.
        signed.any()?;
    }
    // The algorithm, and the issuer.
    signed.any()?;
    signed.any()?;
    let mut validity = signed.sequence()?;
    validity.any()?;
    let (tag, expires) = validity.any()?;
    // The subject.
    signed.any()?;
    let mut public_key = signed.sequence()?;
    // Its algorithm.
    public_key.any()?;
    let (unused, public_key) = public_key.read(BIT_STRING)?.split_first()?;
    let public_key = Some(public_key).filter(|_| *unused == 0)?;
    Some(Own { public_key: public_key.to_vec(), expires: seconds(tag, expires)? })
}

/// Seconds since 1970 of a time in UTC (RFC 5280 §4.1.2.5); 0 for all before.
fn seconds(tag: u8, time: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(time).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year: u64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = digits.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let mut rest = rest;
    let mut next = || -> Option<u64> {
        let (two, after) = rest.split_at_checked(2)?;
        rest = after;
        two.parse().ok()
    };
    let (month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?);
    let days = days(year, month, day)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days since 1970, in the Gregorian calendar; 0 for all before.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || day == 0 || year > 9999 {
        return None;
    }
    // A year begins in March here, so that the day of a leap year is its last.
    let year = if month > 2 { year } else { year.checked_sub(1)? };
    let since_march = (month + 9) % 12;
    let of_year = (153 * since_march + 2) / 5 + day - 1;
    let all = year * 365 + year / 4 - year / 100 + year / 400 + of_year;
    // So many from March of the year 0 to 1970.
    Some(all.saturating_sub(719_468))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_cut_or_changed_anywhere_is_read_or_refused() {
        let pem = include_str!("../../../tests/vectors/keys/p256.crt.pem");
        let whole = Certificates::parse(pem).unwrap();
        let der = whole.chain.first().unwrap();
        for at in 0..der.len() {
            assert_eq!(own(&der[..at]), None, "{at}");
            for bit in 0..8 {
                let mut changed = der.clone();
                changed[at] ^= 1 << bit;
                let _ = own(&changed);
            }
        }
        assert_eq!(own(der), Some(whole.own));
    }

    #[test]
    fn times_are_read_in_both_forms() {
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", 0),
            (UTC_TIME, "991231235959Z", 946_684_799),
            (UTC_TIME, "000301000000Z", 951_868_800),
            (UTC_TIME, "491231235959Z", 2_524_607_999),
            (UTC_TIME, "500101000000Z", 0),
            (GENERALIZED_TIME, "20240229120000Z", 1_709_208_000),
            (GENERALIZED_TIME, "20500101000000Z", 2_524_608_000),
            (GENERALIZED_TIME, "99991231235959Z", 253_402_300_799),
            (GENERALIZED_TIME, "00000101000000Z", 0),
        ] {
            let found = seconds(tag, text.as_bytes());
            let expected = if text.starts_with("0000") { None } else { Some(expected) };
            assert_eq!(found, expected, "{text}");
        }
        for bad in ["", "Z", "7001010000Z", "701301000000Z", "70010100000", "7001010000xxZ"] {
            assert_eq!(seconds(UTC_TIME, bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(seconds(BIT_STRING, b"700101000000Z"), None);
    }
}
