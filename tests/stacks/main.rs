//! The layer at home in the stacks that people have, each over a real socket.

mod axum_app;
mod examples;
mod hyper_client;
mod layer_order;
#[path = "../../examples/loopback/mod.rs"]
mod loopback;
mod redirects;
mod reqwest_client;
mod tonic_channel;
mod world;
