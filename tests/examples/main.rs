//! The examples, run as their users run them, against servers on loopback.
#![cfg(unix)]

#[cfg(feature = "keyed")]
mod keys;
mod providers;
mod support;
mod token;
