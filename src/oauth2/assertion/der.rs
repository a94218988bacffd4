//! As much of DER (X.690) as keys, certificates and signatures need.

use zeroize::Zeroizing;

use super::{algorithm::SigningAlgorithm, jwt::Signature};

pub(super) const INTEGER: u8 = 0x02;
pub(super) const SEQUENCE: u8 = 0x30;

/// Reads one value after the other.
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
                let (bytes, rest) = rest.split_at_checked(long - 0x80)?;
                let add = |sum: usize, byte: &u8| (sum << 8) | usize::from(*byte);
                (bytes.iter().fold(0, add), rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some((tag, contents))
    }

    /// The contents of the next value, which has to have that tag.
    pub(super) fn read(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, contents)| contents)
    }

    /// The values inside the next one, which has to be a sequence.
    pub(super) fn sequence(&mut self) -> Option<Self> {
        self.read(SEQUENCE).map(Self::new)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// A signature as a JWT has it (RFC 7518 §3.4), of one that may be DER; `None` if it is none of
/// the algorithm.
pub(super) fn fixed(algorithm: SigningAlgorithm, signature: Vec<u8>) -> Option<Signature> {
    let signature = Zeroizing::new(signature);
    let size = match algorithm {
        SigningAlgorithm::Es256 => 32,
        SigningAlgorithm::Es384 => 48,
        _ => return Some(signature).filter(|signature| !signature.is_empty()),
    };
    if signature.len() == 2 * size {
        return Some(signature);
    }
    let mut outer = Reader::new(&signature);
    let mut numbers = outer.sequence()?;
    let mut fixed = Zeroizing::new(Vec::with_capacity(2 * size));
    for _ in 0..2 {
        let number = numbers.read(INTEGER)?;
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let (_, number) = number.split_at_checked(zeros)?;
        let missing = size.checked_sub(number.len())?;
        fixed.extend(std::iter::repeat_n(0, missing));
        fixed.extend_from_slice(number);
    }
    (numbers.is_empty() && outer.is_empty()).then_some(fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_short_or_long_and_what_is_cut_is_nothing() {
        let long = [vec![4, 0x82, 1, 0], vec![7; 256]].concat();
        assert_eq!(Reader::new(&long).any(), Some((4, &[7; 256][..])));
        assert_eq!(Reader::new(&[5, 0]).read(5), Some(&[][..]));
        let rests: [&[u8]; 6] =
            [&[], &[4], &[4, 1], &[4, 0x80, 1], &[4, 0x85, 0, 0, 0, 0, 0], &[4, 0x81]];
        for cut in rests {
            assert_eq!(Reader::new(cut).any(), None, "{cut:?}");
        }
    }

    fn fixed(algorithm: SigningAlgorithm, signature: Vec<u8>) -> Option<Vec<u8>> {
        super::fixed(algorithm, signature).map(|signature| signature.to_vec())
    }

    #[test]
    fn a_signature_in_der_becomes_two_numbers_of_a_fixed_length() {
        let number =
            |bytes: &[u8]| [&[INTEGER, u8::try_from(bytes.len()).unwrap()][..], bytes].concat();
        let signature = |numbers: &[Vec<u8>]| {
            let inside = numbers.concat();
            [vec![SEQUENCE, u8::try_from(inside.len()).unwrap()], inside].concat()
        };
        // Of 33 bytes because it would be negative, and short because it begins with zeros.
        let (large, small) = ([&[0][..], &[0xff; 32]].concat(), vec![1, 2]);
        let der = signature(&[number(&large), number(&small)]);
        let fixed_one = fixed(SigningAlgorithm::Es256, der).unwrap();
        assert_eq!(fixed_one, [&[0xff; 32][..], &[0; 30], &[1, 2]].concat());
        assert_eq!(fixed(SigningAlgorithm::Es256, vec![SEQUENCE; 64]), Some(vec![SEQUENCE; 64]));
        for bad in [
            vec![],
            vec![0; 63],
            signature(&[number(&large)]),
            signature(&[number(&[1; 33]), number(&small)]),
            signature(&[number(&large), number(&small), number(&small)]),
        ] {
            assert_eq!(fixed(SigningAlgorithm::Es256, bad.clone()), None, "{bad:?}");
        }
        assert_eq!(fixed(SigningAlgorithm::Rs256, vec![1]), Some(vec![1]));
        assert_eq!(fixed(SigningAlgorithm::Rs256, vec![]), None);
    }
}
