//! Sealing: the store cannot read tokens, and an attacker who can write to it cannot plant one.
//!
//! ```text
//! sealed:  format u8 = 1 | key id [8] | nonce [24] | XChaCha20-Poly1305(record), its tag [16] last
//! bound:   "tower-bearer" | format | key id | name
//! ```
//!
//! Nonces are random. With 192 bits they do not collide, however many processes seal. The bound
//! data is authenticated but not stored, so that a record moved to another name does not open.

use std::fmt;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use chacha20poly1305::{AeadInPlace, KeyInit, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::record::{MAX_LEN, Record};
use crate::secret::{Secret, SecretError};

const FORMAT: u8 = 1;
const ID_LEN: usize = 8;
const NONCE_LEN: usize = 24;
const HEAD_LEN: usize = 1 + ID_LEN + NONCE_LEN;

type Mac256 = Hmac<Sha256>;

/// The key that seals records, and the keys that open records sealed earlier.
///
/// A key is 32 random bytes in base64 (either alphabet, padded or not) or hexadecimal. Make one
/// with `openssl rand -base64 32`, and give it to all processes of the fleet. Each use reads it
/// again.
///
/// To rotate the key without a gap, go through all processes three times. First add the new key
/// with [`also_opens`](Self::also_opens). Then swap the two: seal with the new key, and also open
/// with the old one. Then remove the old one.
///
/// ```
/// use tower_bearer::{Secret, shared::Seal};
///
/// let seal = Seal::new(Secret::file("/run/secrets/seal"))
///     .also_opens(Secret::file("/run/secrets/seal-of-last-year"));
/// # drop(seal);
/// ```
///
/// An attacker with the key can read tokens from a store that they can read, and plant tokens in a
/// store that they can write to. The seal protects against all others. It does not prevent an
/// attacker who can write to the store from restoring an older record of the same name.
#[derive(Clone, Debug)]
pub struct Seal {
    key: Secret,
    old: Vec<Secret>,
}

/// An error of a sealing key. It shows where the key is stored, and never the key.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The key cannot be read.
    #[error("the seal's key cannot be read: {0}")]
    Unreadable(#[source] SecretError),
    /// The value is not a key.
    #[error(
        "{0} does not hold a key for the seal: 32 bytes in base64 or hexadecimal \
         (make one with `openssl rand -base64 32`)"
    )]
    NoKey(String),
}

/// The keys as just read.
pub(super) struct Keys {
    key: Key,
    old: Vec<Key>,
    /// Why an old key is missing.
    unread: Option<SealError>,
}

struct Key {
    id: [u8; ID_LEN],
    cipher: XChaCha20Poly1305,
    #[cfg(feature = "keyed")]
    names: Mac256,
}

/// Why a stored value is not a readable record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    TooLarge,
    Truncated,
    Format,
    Key,
    Seal,
    Contents,
}

// ===== impl Seal =====

impl Seal {
    /// Makes a seal with that key.
    pub fn new(key: impl Into<Secret>) -> Self {
        Self { key: key.into(), old: Vec::new() }
    }

    /// Also opens records that were sealed with that key. Call it again to add more keys.
    ///
    /// A process that cannot read such a key goes on without it. But if a fetch spends the refresh
    /// token, and the record may be sealed with that key, the process fails with a transient error:
    /// the record may have the current refresh token.
    #[must_use]
    pub fn also_opens(mut self, key: impl Into<Secret>) -> Self {
        self.old.push(key.into());
        self
    }

    /// Checks that the sealing key can be read, so that a program can report a missing one at
    /// startup.
    ///
    /// # Errors
    ///
    /// If the key cannot be read, or is not a key.
    pub async fn check(&self) -> Result<(), SealError> {
        Key::read(&self.key).await.map(drop)
    }

    pub(super) async fn keys(&self) -> Result<Keys, SealError> {
        let key = Key::read(&self.key).await?;
        let (mut old, mut unread) = (Vec::new(), None);
        for secret in &self.old {
            match Key::read(secret).await {
                Ok(key) => old.push(key),
                Err(error) => unread = Some(error),
            }
        }
        Ok(Keys { key, old, unread })
    }
}

impl SealError {
    /// Whether a retry may succeed.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Unreadable(error) if error.is_transient())
    }
}

// ===== impl Keys =====

impl Keys {
    /// Seals a record. `None`: the operating system has no random bytes, or the record is too
    /// large.
    pub(super) fn seal(&self, name: &str, record: &Record) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let mut bytes = record.to_bytes();
        let bound = bound(FORMAT, &self.key.id, name);
        self.key.cipher.encrypt_in_place(XNonce::from_slice(&nonce), &bound, &mut *bytes).ok()?;
        let sealed = [&[FORMAT][..], &self.key.id, &nonce, &bytes].concat();
        (sealed.len() <= MAX_LEN).then_some(sealed)
    }

    pub(super) fn open(&self, name: &str, sealed: &[u8]) -> Result<Record, Unreadable> {
        if sealed.len() > MAX_LEN {
            return Err(Unreadable::TooLarge);
        }
        let (head, body) = sealed.split_at_checked(HEAD_LEN).ok_or(Unreadable::Truncated)?;
        let (format, head) = head.split_first().ok_or(Unreadable::Truncated)?;
        if *format != FORMAT {
            return Err(Unreadable::Format);
        }
        let (id, nonce) = head.split_at(ID_LEN);
        let mut keys = std::iter::once(&self.key).chain(&self.old);
        let key = keys.find(|key| key.id == id).ok_or(Unreadable::Key)?;
        let mut bytes = Zeroizing::new(body.to_vec());
        let bound = bound(*format, id, name);
        key.cipher
            .decrypt_in_place(XNonce::from_slice(nonce), &bound, &mut *bytes)
            .map_err(|_| Unreadable::Seal)?;
        Record::from_bytes(&bytes).ok_or(Unreadable::Contents)
    }

    /// Why an old key, which may open a record of an unknown key, cannot be read.
    pub(super) fn unread(&self) -> Option<&SealError> {
        self.unread.as_ref()
    }

    /// A digest of the parts, the same in all processes. Without the key it reveals nothing about
    /// the parts.
    #[cfg(feature = "keyed")]
    pub(super) fn digest<'a>(&self, parts: impl Iterator<Item = &'a [u8]>) -> String {
        use fmt::Write;

        let mut mac = self.key.names.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        let digest = mac.finalize().into_bytes();
        digest.iter().take(16).fold(String::new(), |mut text, byte| {
            // Writing to a string never fails.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

fn bound(format: u8, id: &[u8], name: &str) -> Vec<u8> {
    [b"tower-bearer", &[format][..], id, name.as_bytes()].concat()
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

// ===== impl Key =====

impl Key {
    async fn read(secret: &Secret) -> Result<Self, SealError> {
        let text = secret.read().await.map_err(SealError::Unreadable)?;
        let bytes = decoded(text.trim()).ok_or_else(|| SealError::NoKey(secret.place()))?;
        Self::new(&bytes).ok_or_else(|| SealError::NoKey(secret.place()))
    }

    /// Derives one key per use.
    fn new(bytes: &[u8; 32]) -> Option<Self> {
        let derived = |purpose: &str| -> Option<Zeroizing<[u8; 32]>> {
            let mut mac = <Mac256 as Mac>::new_from_slice(bytes).ok()?;
            mac.update(purpose.as_bytes());
            Some(Zeroizing::new(mac.finalize().into_bytes().into()))
        };
        let id = derived("tower-bearer key id")?;
        Some(Self {
            id: *id.first_chunk()?,
            cipher: XChaCha20Poly1305::new_from_slice(&*derived("tower-bearer seal")?).ok()?,
            #[cfg(feature = "keyed")]
            names: <Mac256 as Mac>::new_from_slice(&*derived("tower-bearer names")?).ok()?,
        })
    }
}

/// 32 bytes in hexadecimal or base64.
fn decoded(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    if text.len() == 64 {
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let [high, low] = digits.first_chunk().map(|pair: &[u8; 2]| pair.map(digit))?;
            *byte = high? << 4 | low?;
        }
        return Some(bytes);
    }
    let padding = DecodePaddingMode::Indifferent;
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(padding);
    [alphabet::STANDARD, alphabet::URL_SAFE].into_iter().find_map(|alphabet| {
        let decoded =
            GeneralPurpose::new(&alphabet, config).decode(text).ok().map(Zeroizing::new)?;
        bytes.copy_from_slice(decoded.get(..32).filter(|_| decoded.len() == 32)?);
        Some(bytes.clone())
    })
}

fn digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| value.try_into().ok())
}

// ===== impl Unreadable =====

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "it is too large",
            Self::Truncated => "it is too short",
            Self::Format => "its format is unknown",
            Self::Key => "it is sealed with another key",
            Self::Seal => "its seal is invalid, or it was sealed for another name",
            Self::Contents => "its contents are not a token record",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        futures_util::FutureExt::now_or_never(future).expect("a fixed secret is here")
    }

    fn keys(seal: &Seal) -> Keys {
        block_on(seal.keys()).unwrap()
    }

    fn record() -> Record {
        Record { generation: 7, ..Record::default() }
    }

    #[test]
    fn a_key_is_32_bytes_in_base64_or_hexadecimal() {
        let same = [
            KEY,
            &KEY.to_uppercase(),
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n",
        ];
        let sealed = keys(&Seal::new(KEY)).seal("a", &record()).unwrap();
        for text in same {
            assert_eq!(keys(&Seal::new(text)).open("a", &sealed), Ok(record()), "{text}");
        }
        assert!(block_on(Seal::new(KEY).check()).is_ok());
        let standard = decoded("+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/8=").unwrap();
        assert_eq!(decoded("-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_8").unwrap(), standard);
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        let hush = "hush".repeat(16);
        for text in [&KEY[..62], &format!("{KEY}00"), "hush", &hush, "AAEC", "é"] {
            let error = block_on(Seal::new(text).keys()).unwrap_err();
            assert!(block_on(Seal::new(text).check()).is_err());
            let shown = format!("{error} {error:?}");
            assert!(matches!(error, SealError::NoKey(_)) && !error.is_transient());
            assert!(!shown.contains("hush") && !shown.contains("0001"), "{shown}");
        }
        let missing = block_on(Seal::new(Secret::env("NEVER_SET_ANYWHERE")).keys());
        assert!(matches!(missing, Err(SealError::Unreadable(_))));
    }

    #[test]
    fn what_is_sealed_shows_nothing_and_is_never_the_same_twice() {
        let keys = keys(&Seal::new(KEY));
        let (one, other) = (keys.seal("a", &record()).unwrap(), keys.seal("a", &record()).unwrap());
        assert_ne!(one[HEAD_LEN..], other[HEAD_LEN..]);
        assert_eq!(one.len(), HEAD_LEN + record().to_bytes().len() + 16);
    }

    #[test]
    fn a_record_does_not_open_under_another_name_or_key() {
        let keys_1 = keys(&Seal::new(KEY));
        let sealed = keys_1.seal("orders", &record()).unwrap();
        assert_eq!(keys_1.open("invoices", &sealed), Err(Unreadable::Seal));
        let other = keys(&Seal::new(KEY.replace("00", "ff")));
        assert_eq!(other.open("orders", &sealed), Err(Unreadable::Key));
    }

    #[test]
    fn a_rotated_key_opens_what_the_old_one_sealed_and_seals_anew() {
        let (old, new) = (Seal::new(KEY), Seal::new(KEY.replace("00", "ff")));
        let sealed = keys(&old).seal("a", &record()).unwrap();
        let both = keys(&new.clone().also_opens(Secret::new(KEY)).also_opens("no key"));
        assert_eq!(both.open("a", &sealed), Ok(record()));
        assert_eq!(keys(&old).open("a", &both.seal("a", &record()).unwrap()), Err(Unreadable::Key));
        assert_eq!(keys(&new).open("a", &both.seal("a", &record()).unwrap()), Ok(record()));
    }

    #[test]
    fn garbage_is_told_apart() {
        let keys = keys(&Seal::new(KEY));
        let sealed = keys.seal("a", &record()).unwrap();
        let mut future = sealed.clone();
        future[0] = FORMAT + 1;
        for (bytes, reason) in [
            (&[][..], Unreadable::Truncated),
            (&sealed[..HEAD_LEN - 1], Unreadable::Truncated),
            (&sealed[..HEAD_LEN], Unreadable::Seal),
            (&sealed[..sealed.len() - 1], Unreadable::Seal),
            (&future, Unreadable::Format),
            (&vec![FORMAT; 10 << 20], Unreadable::TooLarge),
            (b"<html>a page of a proxy, which is longer than a head</html>", Unreadable::Format),
        ] {
            assert_eq!(keys.open("a", bytes), Err(reason), "{}", bytes.len());
        }
    }

    #[test]
    fn a_record_that_would_not_be_read_is_not_sealed() {
        let token = super::super::record::Stored {
            secret: Zeroizing::new("a".repeat(MAX_LEN)),
            refresh_token: None,
            scope: None,
            fetched_at: super::super::time::StoreTime(0),
            expires_at: None,
            due_at: None,
            renewed: false,
        };
        let record = Record { token: Some(token), ..Record::default() };
        assert!(keys(&Seal::new(KEY)).seal("a", &record).is_none());
    }

    #[cfg(feature = "keyed")]
    #[test]
    fn a_digest_is_the_same_in_all_processes_that_have_the_key() {
        let digest = |key: &str, parts: &[&str]| {
            keys(&Seal::new(key)).digest(parts.iter().map(|part| part.as_bytes()))
        };
        assert_eq!(digest(KEY, &["ab", "c"]), digest(KEY, &["ab", "c"]));
        assert_ne!(digest(KEY, &["ab", "c"]), digest(KEY, &["a", "bc"]));
        assert_ne!(digest(KEY, &["a"]), digest(&KEY.replace("00", "ff"), &["a"]));
    }

    proptest! {
        #[test]
        fn one_changed_bit_and_it_does_not_open(bit: usize) {
            let keys = keys(&Seal::new(KEY));
            let mut sealed = keys.seal("a", &record()).unwrap();
            let at = bit % (sealed.len() * 8);
            sealed[at / 8] ^= 1 << (at % 8);
            prop_assert!(keys.open("a", &sealed).is_err());
        }

        #[test]
        fn whatever_is_stored_opening_it_ends(bytes: Vec<u8>) {
            prop_assert!(keys(&Seal::new(KEY)).open("a", &bytes).is_err());
        }
    }
}
