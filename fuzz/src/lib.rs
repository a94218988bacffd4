//! The targets, which `tests/fuzz_corpora` runs too.

#[path = "../../tests/fuzz_corpora/replay_body.rs"]
pub mod replay_body;
#[path = "../../tests/fuzz_corpora/targets.rs"]
pub mod targets;
