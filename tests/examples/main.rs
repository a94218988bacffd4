//! The examples, run as their users run them, against servers on loopback.
#![cfg(unix)]

mod support;
mod systems;
mod token;
