//! The promises of the crate, each by tests that bear its sentence as a name. Time is paused,
//! and every interleaving is driven: a source answers when the test says so.

#[path = "../common/log.rs"]
mod log;
mod support;

mod attempts;
mod bad_night;
mod bystanders;
mod failure;
mod header;
mod keep_warm;
#[cfg(feature = "keyed")]
mod keys;
mod lifetime;
mod names;
mod readiness;
mod recheck;
mod refresh;
mod rejections;
mod replay;
mod runtimes;
mod secrets;
mod single_flight;
mod used_service;
mod wire;
