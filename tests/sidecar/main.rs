//! The sidecar, as a process, between a client and services on this machine.

mod bad_config;
mod connections;
mod cost;
mod forwarding;
mod lifecycle;
mod streaming;
mod support;
mod tls;
mod tokens;
