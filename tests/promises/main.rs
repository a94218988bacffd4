//! The promises of the crate, each by tests that bear its sentence as a name. Time is paused,
//! and every interleaving is driven: a source answers when the test says so.

mod support;

mod attempts;
mod failure;
mod keeper;
mod lifetime;
mod readiness;
mod replay;
mod secrets;
mod single_flight;
mod used_service;
mod wire;
