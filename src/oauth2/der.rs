//! The part of DER (X.690) that keys, certificates and signatures need.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const SEQUENCE: u8 = 0x30;

/// Reads one value after another.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

// ===== impl Reader =====

impl<'a> Reader<'a> {
    pub(super) fn new(der: &'a [u8]) -> Self {
        Self { rest: der }
    }

    /// The next value: its tag and its contents.
    pub(super) fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.rest.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match usize::from(first) {
            short @ 0..=0x7f => (short, rest),
            long @ 0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(long & 0x7f)?;
                let add = |sum: usize, byte: &u8| (sum << 8) | usize::from(*byte);
                (bytes.iter().fold(0, add), rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some((tag, contents))
    }

    /// The contents of the next value, which must have that tag.
    pub(super) fn read(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, contents)| contents)
    }

    /// The values inside the next one, which must be a sequence.
    pub(super) fn sequence(&mut self) -> Option<Self> {
        self.read(SEQUENCE).map(Self::new)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_short_or_long_and_truncated_values_are_refused() {
        let long = [vec![4, 0x82, 1, 0], vec![7; 256]].concat();
        assert_eq!(Reader::new(&long).any(), Some((4, &[7; 256][..])));
        assert_eq!(Reader::new(&[5, 0]).read(5), Some(&[][..]));
        let rests: [&[u8]; 6] =
            [&[], &[4], &[4, 1], &[4, 0x80, 1], &[4, 0x85, 0, 0, 0, 0, 0], &[4, 0x81]];
        for cut in rests {
            assert_eq!(Reader::new(cut).any(), None, "{cut:?}");
        }
    }
}
