//! The examples, run as their users run them, against servers on loopback.
#![cfg(unix)]

mod providers;
mod support;
mod token;
