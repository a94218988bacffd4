//! The promises of the crate (see ARCHITECTURE.md). The name of each test says what it checks. Time is
//! paused, and a source answers when the test says so.

#[path = "../common/api.rs"]
mod api;
#[path = "../common/log.rs"]
mod log;
#[path = "../common/mint.rs"]
mod mint;
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
