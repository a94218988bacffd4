//! The sidecar, as a process, between a client and services on this machine.

mod bad_config;
mod connections;
mod dashboard;
mod forwarding;
mod lifecycle;
#[path = "../../examples/loopback/mod.rs"]
mod loopback;
#[path = "../dashboard/panels.rs"]
mod panels;
mod store;
mod streaming;
mod support;
mod tls;
mod tokens;
mod users;
