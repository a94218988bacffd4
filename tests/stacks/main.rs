//! The layer at home in the stacks that people have, each over a real socket.

mod axum_app;
mod examples;
mod hyper_client;
mod layer_order;
#[path = "../../examples/loopback/mod.rs"]
mod loopback;
mod plain_listener;
// There, no variable says whom reqwest trusts.
#[cfg(not(any(windows, target_vendor = "apple")))]
mod readme;
mod redirects;
mod reqwest_client;
mod tonic_channel;
mod world;
