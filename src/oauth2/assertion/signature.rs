//! Signatures that somebody else has made.

use super::{
    super::der::{INTEGER, Reader},
    algorithm::SigningAlgorithm,
};

/// A signature as a JWT has it (RFC 7518 §3.4), of one that may be DER; `None` if it is none of
/// the algorithm.
pub(super) fn fixed(algorithm: SigningAlgorithm, signature: Vec<u8>) -> Option<Vec<u8>> {
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
    let mut fixed = Vec::with_capacity(2 * size);
    for _ in 0..2 {
        let number = numbers.read(INTEGER)?;
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let (_, number) = number.split_at_checked(zeros)?;
        fixed.resize(fixed.len() + size.checked_sub(number.len())?, 0);
        fixed.extend_from_slice(number);
    }
    (numbers.is_empty() && outer.is_empty()).then_some(fixed)
}

#[cfg(test)]
mod tests {
    use super::{super::super::der::SEQUENCE, *};

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
