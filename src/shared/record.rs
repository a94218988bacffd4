//! The shared record of a name, and its bytes before they are sealed.
//!
//! ```text
//! generation u64, doubt u8, pause_until?, token?, lease?
//! token:  secret, refresh_token?, scope?, fetched_at, expires_at?, due_at?, renewed u8
//! lease:  holder [16], until, length u64, is_grace u8
//! ```
//!
//! Numbers are little endian. Times are milliseconds since 1970 in a u64. A text is its length in a
//! u32 and its bytes. An optional field has a byte 0 or 1 before it. No bytes may follow.

use std::time::Duration;

use zeroize::Zeroizing;

use super::time::StoreTime;

/// The largest record that is read, in bytes. A token fits into an HTTP header, which is smaller.
pub(super) const MAX_LEN: usize = 256 * 1024;

/// The longest scope that is stored. Nothing depends on it, and it must leave room for the tokens.
pub(super) const MAX_SCOPE: usize = MAX_LEN / 4;

/// The record of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Of two records, the one with the higher generation is newer.
    pub(super) generation: u64,
    pub(super) doubt: Doubt,
    /// Until when no process fetches, because a fetch has failed.
    pub(super) pause_until: Option<StoreTime>,
    pub(super) token: Option<Stored>,
    pub(super) lease: Option<Lease>,
}

/// Whether the refresh token of a record may have been spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Doubt {
    /// No process has sent it, or its exchange has failed with a clear answer.
    #[default]
    None,
    /// A process may have sent it, with an unknown outcome.
    Once,
    /// The same has happened again with the one more attempt that it got.
    Lost,
}

/// A token, with times by the store's clock.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) secret: Zeroizing<String>,
    pub(super) refresh_token: Option<Zeroizing<String>>,
    pub(super) scope: Option<String>,
    pub(super) fetched_at: StoreTime,
    pub(super) expires_at: Option<StoreTime>,
    pub(super) due_at: Option<StoreTime>,
    /// Whether it was fetched because an API had rejected the one before.
    pub(super) renewed: bool,
}

/// The right of one process to fetch the next generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) holder: Holder,
    pub(super) until: StoreTime,
    pub(super) length: Duration,
    /// Whether the lease has ended, and its holder has a grace period to report the outcome.
    pub(super) is_grace: bool,
}

/// Identifies one call of one process. No process holds [`NOBODY`].
pub(super) type Holder = [u8; 16];

/// The holder of a lease during which no process fetches.
pub(super) const NOBODY: Holder = [0; 16];

// ===== impl Record =====

impl Record {
    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // The length is counted first: a buffer that grows leaves copies of secrets behind.
        let mut writer = Writer(Zeroizing::new(Vec::with_capacity(self.len())));
        writer.number(self.generation);
        writer.byte(match self.doubt {
            Doubt::None => 0,
            Doubt::Once => 1,
            Doubt::Lost => 2,
        });
        writer.option(self.pause_until, Writer::time);
        writer.option(self.token.as_ref(), |writer, token| {
            writer.text(&token.secret);
            writer.option(token.refresh_token.as_ref(), |writer, text| writer.text(text));
            writer.option(token.scope.as_ref(), |writer, text| writer.text(text));
            writer.time(token.fetched_at);
            writer.option(token.expires_at, Writer::time);
            writer.option(token.due_at, Writer::time);
            writer.byte(token.renewed.into());
        });
        writer.option(self.lease, |writer, lease| {
            writer.0.extend_from_slice(&lease.holder);
            writer.time(lease.until);
            writer.number(super::time::millis(lease.length));
            writer.byte(lease.is_grace.into());
        });
        writer.0
    }

    /// Reads a record. `None`: these are not the bytes of one.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let record = Self {
            generation: reader.number()?,
            doubt: match reader.byte()? {
                0 => Doubt::None,
                1 => Doubt::Once,
                2 => Doubt::Lost,
                _ => return None,
            },
            pause_until: reader.option(Reader::time)?,
            token: reader.option(|reader| {
                Some(Stored {
                    secret: reader.text()?,
                    refresh_token: reader.option(Reader::text)?,
                    scope: reader.option(Reader::text)?.map(|scope| scope.to_string()),
                    fetched_at: reader.time()?,
                    expires_at: reader.option(Reader::time)?,
                    due_at: reader.option(Reader::time)?,
                    renewed: reader.flag()?,
                })
            })?,
            lease: reader.option(|reader| {
                Some(Lease {
                    holder: reader.array()?,
                    until: reader.time()?,
                    length: Duration::from_millis(reader.number()?),
                    is_grace: reader.flag()?,
                })
            })?,
        };
        reader.0.is_empty().then_some(record)
    }

    /// An upper bound of the record's length in bytes.
    #[expect(clippy::arithmetic_side_effects, reason = "lengths in memory")]
    fn len(&self) -> usize {
        let texts = self.token.as_ref().map_or(0, |token| {
            let refresh_token = token.refresh_token.as_ref().map_or(0, |text| text.len());
            token.secret.len() + refresh_token + token.scope.as_ref().map_or(0, String::len)
        });
        128 + texts
    }
}

// ===== impl Stored =====

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stored")
            .field("fetched_at", &self.fetched_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

// ===== Bytes =====

struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn time(&mut self, time: StoreTime) {
        self.number(time.0);
    }

    /// Writes a text. One that is too long is cut, and the record is then unreadable.
    fn text(&mut self, text: &str) {
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&len.to_le_bytes());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(value.is_some().into());
        if let Some(value) = value {
            write(self, value);
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Option<StoreTime> {
        self.number().map(StoreTime)
    }

    fn text(&mut self) -> Option<Zeroizing<String>> {
        let len = u32::from_le_bytes(self.array()?);
        let bytes = self.take(usize::try_from(len).ok()?)?;
        std::str::from_utf8(bytes).ok().map(|text| Zeroizing::new(text.to_owned()))
    }

    /// Reads an optional field.
    #[expect(clippy::option_option, reason = "an optional field may be unreadable too")]
    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = Zeroizing<String>> {
        ".{0,20}".prop_map(Zeroizing::new)
    }

    fn time() -> impl Strategy<Value = StoreTime> {
        any::<u64>().prop_map(StoreTime)
    }

    prop_compose! {
        fn stored()(
            secret in text(),
            refresh_token in proptest::option::of(text()),
            scope in proptest::option::of(".{0,9}"),
            fetched_at in time(),
            expires_at in proptest::option::of(time()),
            due_at in proptest::option::of(time()),
            renewed in any::<bool>(),
        ) -> Stored {
            Stored { secret, refresh_token, scope, fetched_at, expires_at, due_at, renewed }
        }
    }

    prop_compose! {
        fn record()(
            generation in any::<u64>(),
            doubt in prop_oneof![Just(Doubt::None), Just(Doubt::Once), Just(Doubt::Lost)],
            pause_until in proptest::option::of(time()),
            token in proptest::option::of(stored()),
            lease in proptest::option::of((any::<Holder>(), time(), any::<u64>(), any::<bool>())),
        ) -> Record {
            let lease = lease.map(|(holder, until, length, is_grace)| {
                Lease { holder, until, length: Duration::from_millis(length), is_grace }
            });
            Record { generation, doubt, pause_until, token, lease }
        }
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(record in record()) {
            prop_assert_eq!(Record::from_bytes(&record.to_bytes()), Some(record));
        }

        #[test]
        fn no_part_of_a_record_is_one_and_nothing_may_follow(record in record(), cut: usize) {
            let mut bytes = record.to_bytes();
            prop_assert_eq!(Record::from_bytes(&bytes[..cut % bytes.len()]), None);
            bytes.push(0);
            prop_assert_eq!(Record::from_bytes(&bytes), None);
        }

        #[test]
        fn whatever_the_bytes_are_reading_ends(bytes: Vec<u8>) {
            if let Some(record) = Record::from_bytes(&bytes) {
                prop_assert_eq!(&**record.to_bytes(), &bytes[..]);
            }
        }

        #[test]
        fn the_buffer_never_grows(record in record()) {
            prop_assert!(record.to_bytes().len() <= record.len());
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = || Zeroizing::new("hush".to_owned());
        let token = Stored {
            secret: secret(),
            refresh_token: Some(secret()),
            scope: None,
            fetched_at: StoreTime(0),
            expires_at: None,
            due_at: None,
            renewed: false,
        };
        let record = Record { token: Some(token), ..Record::default() };
        assert!(!format!("{record:?}").contains("hush"));
    }
}
