//! Signatures of a `Signer`.

use zeroize::Zeroizing;

use super::{
    super::der::{INTEGER, Reader},
    algorithm::SigningAlgorithm,
    jwt::Signature,
};

/// Converts a signature, which may be DER, to the form in a JWT (RFC 7518 §3.4); `None` if it does
/// not fit the algorithm.
pub(super) fn fixed(algorithm: SigningAlgorithm, signature: Vec<u8>) -> Option<Signature> {
    let signature = Zeroizing::new(signature);
    let size: usize = match algorithm {
        SigningAlgorithm::Es256 => 32,
        SigningAlgorithm::Es384 => 48,
        _ => return Some(signature).filter(|signature| !signature.is_empty()),
    };
    let length = size.saturating_mul(2);
    if signature.len() == length {
        return Some(signature);
    }
    let mut outer = Reader::new(&signature);
    let mut numbers = outer.sequence()?;
    let mut fixed = Zeroizing::new(Vec::with_capacity(length));
    for _ in 0..2 {
        let number = numbers.read(INTEGER)?;
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let (_, number) = number.split_at_checked(zeros)?;
        fixed.extend(std::iter::repeat_n(0, size.checked_sub(number.len())?));
        fixed.extend_from_slice(number);
    }
    (numbers.is_empty() && outer.is_empty()).then_some(fixed)
}

#[cfg(test)]
mod tests {
    use super::{super::super::der::SEQUENCE, *};

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
        // One has 33 bytes, because it would be negative otherwise. One is short, because it begins
        // with zeros.
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
