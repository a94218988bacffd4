//! What a store has in the place of a record: whatever it is, it is ignored or it is a record, and
//! whoever asks gets some answer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tower_bearer::shared::any_stored(data));
