//! The parts of a certificate (RFC 5280 §4.1) that this crate needs.

use std::time::{Duration, SystemTime};

use super::der::Reader;

const BIT_STRING: u8 = 0x03;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The tag of the version, which v1 certificates do not have.
const VERSION: u8 = 0xa0;

const DAY: u64 = 24 * 3600;

/// The fields of a certificate.
#[derive(Debug, PartialEq)]
pub(super) struct Certificate<'a> {
    pub(super) public_key: &'a [u8],
    /// The last moment at which it is valid.
    pub(super) not_after: SystemTime,
}

// ===== impl Certificate =====

impl<'a> Certificate<'a> {
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
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
        let (tag, not_after) = validity.any()?;
        // The subject.
        signed.any()?;
        let mut public_key = signed.sequence()?;
        // Its algorithm.
        public_key.any()?;
        let (unused, public_key) = public_key.read(BIT_STRING)?.split_first()?;
        let public_key = Some(public_key).filter(|_| *unused == 0)?;
        Some(Self { public_key, not_after: time(tag, not_after)? })
    }
}

/// Parses `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5). Earlier times become 1970.
#[expect(clippy::arithmetic_side_effects, reason = "a year has four digits, and all else two")]
fn time(tag: u8, text: &[u8]) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = number(text, 2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => number(text, 4)?,
        _ => return None,
    };
    let (month, rest) = number(rest, 2)?;
    let (day, rest) = number(rest, 2)?;
    let (hour, rest) = number(rest, 2)?;
    let (minute, rest) = number(rest, 2)?;
    let (second, rest) = number(rest, 2)?;
    if !rest.is_empty() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn number(text: &str, digits: usize) -> Option<(u64, &str)> {
    let (number, rest) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, rest))
}

/// The days from 1 January 1970 to a date of the Gregorian calendar. The year begins in March, so
/// that the leap day is its last.
#[expect(clippy::arithmetic_side_effects, reason = "a year has four digits")]
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) =
        if month > 2 { (year, month - 3) } else { (year.saturating_sub(1), month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    (365 * year + leap_days + (153 * month + 2) / 5 + day).saturating_sub(719_469)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PublicKeyData, date_time_ymd};

    use super::*;

    fn der(not_after: (i32, u8, u8), key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.not_after = date_time_ymd(not_after.0, not_after.1, not_after.2);
        params.self_signed(key).unwrap().der().to_vec()
    }

    fn seconds(time: SystemTime) -> u64 {
        time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    #[test]
    fn the_key_and_the_expiry_of_a_certificate_are_found() {
        let key = KeyPair::generate().unwrap();
        for (date, expected) in [
            ((2020, 2, 29), 1_582_934_400),
            ((2026, 11, 26), 1_795_651_200),
            ((2049, 12, 31), 2_524_521_600),
            ((2050, 1, 1), 2_524_608_000),
            ((2100, 3, 1), 4_107_542_400),
            ((4096, 1, 1), 67_090_118_400),
        ] {
            let der = der(date, &key);
            let found = Certificate::read(&der).unwrap();
            assert_eq!(seconds(found.not_after), expected, "{date:?}");
            let expected = Certificate { public_key: key.der_bytes(), ..found };
            assert_eq!(Certificate::read(&der), Some(expected));
        }
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
            assert_eq!(time(tag, text.as_bytes()).map(seconds), Some(expected), "{text}");
        }
        for bad in [
            "",
            "Z",
            "7001010000Z",
            "701301000000Z",
            "700100000000Z",
            "700132000000Z",
            "70010100000",
            "7001010000xxZ",
            "9901010000+0Z",
            "99010100000000Z",
        ] {
            assert_eq!(time(UTC_TIME, bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(time(BIT_STRING, b"700101000000Z"), None);
    }

    #[test]
    fn a_truncated_or_changed_certificate_never_panics() {
        let der = der((2050, 1, 1), &KeyPair::generate().unwrap());
        for at in 0..der.len() {
            assert_eq!(Certificate::read(&der[..at]), None, "{at}");
            for bit in 0..8 {
                let mut changed = der.clone();
                changed[at] ^= 1 << bit;
                let _ = Certificate::read(&changed);
            }
        }
    }
}
