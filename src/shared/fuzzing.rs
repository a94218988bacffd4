//! What must hold for any bytes in place of a record: for the fuzz target, and for its seeds in an
//! ordinary test.

use std::time::Duration;

use futures_util::FutureExt;

use super::{
    protocol::{self, Rules, Want},
    record::Record,
    seal::{Keys, Seal},
    time::StoreTime,
};
use crate::{
    source::{Reason, TokenRequest},
    token::AccessToken,
};

const NAME: &str = "orders";

/// Takes eight bytes for the store's clock and then any bytes, sealed or not. Opening, reading,
/// deciding and handing out must not panic, and a record that is read must be written unchanged.
///
/// # Panics
///
/// If something does not hold.
pub fn any_stored(data: &[u8]) {
    let Some((clock, bytes)) = data.split_first_chunk() else { return };
    let now = StoreTime(u64::from_le_bytes(*clock));
    let keys = Seal::new("5e".repeat(32)).keys().now_or_never();
    let keys = keys.expect("a fixed secret is here").expect("it is a key");
    if let Ok(record) = keys.open(NAME, bytes) {
        whatever_it_is(&record, now);
    }
    if let Some(record) = Record::from_bytes(bytes) {
        assert_eq!(**record.to_bytes(), *bytes, "it is written as it was read");
        whatever_it_is(&record, now);
        opens_there_alone(&keys, &record);
    }
}

fn opens_there_alone(keys: &Keys, record: &Record) {
    let Some(sealed) = keys.seal(NAME, record) else { return };
    assert_eq!(keys.open(NAME, &sealed).as_ref(), Ok(record));
    assert!(keys.open("invoices", &sealed).is_err());
}

/// Every call gets an answer.
fn whatever_it_is(record: &Record, now: StoreTime) {
    let token = AccessToken::new("a").expect("that is a token");
    let requests = [Reason::First, Reason::Due, Reason::Expired, Reason::Rejected].map(|reason| {
        let request = TokenRequest::new(reason).with_previous(token.clone());
        if reason == Reason::Rejected { request.with_rejected(token.clone()) } else { request }
    });
    for rotates in [false, true] {
        let settle = rotates.then_some(Duration::from_secs(7));
        let rules = Rules { lease: Duration::from_secs(30), rotates, settle };
        for request in &requests {
            let want = Want::of(request);
            let held = Record::default();
            for (seen, held) in [(Some(record), None), (Some(&held), Some(record)), (None, None)] {
                drop(protocol::ask(&want, [1; 16], &rules, seen, held, now));
            }
        }
    }
    if let Some(token) = &record.token {
        // A header may be unable to carry the token.
        drop(token.for_caller(now));
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn seeds() -> impl Iterator<Item = Vec<u8>> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/record");
        fs::read_dir(path).unwrap().map(|seed| fs::read(seed.unwrap().path()).unwrap())
    }

    #[test]
    fn all_seeds_hold() {
        seeds().for_each(|seed| any_stored(&seed));
    }

    #[test]
    fn there_are_seeds_of_records_of_what_is_sealed_and_of_garbage() {
        let keys = Seal::new("5e".repeat(32)).keys().now_or_never().unwrap().unwrap();
        let of = |is: &dyn Fn(&[u8]) -> bool| seeds().filter(|seed| is(&seed[8..])).count();
        assert!(of(&|bytes| Record::from_bytes(bytes).is_some_and(|it| it.token.is_some())) > 2);
        assert!(of(&|bytes| keys.open(NAME, bytes).is_ok()) > 2);
        assert!(
            of(&|bytes| Record::from_bytes(bytes).or(keys.open(NAME, bytes).ok()).is_none()) > 2
        );
    }
}
