//! The layer in the usual stacks, each over a real socket.

#[cfg(feature = "keyed")]
#[path = "../../examples/on_behalf_of/answer.rs"]
mod answer;
#[cfg(feature = "keyed")]
mod answers;
#[cfg(feature = "keyed")]
#[path = "../../examples/on_behalf_of/app.rs"]
mod app;
mod axum_app;
#[cfg(feature = "keyed")]
#[path = "../../examples/common/challenge.rs"]
mod challenge;
mod examples;
mod hyper_client;
#[cfg(feature = "keyed")]
mod incoming;
#[cfg(feature = "keyed")]
mod keys;
mod layer_order;
#[path = "../../examples/loopback/mod.rs"]
mod loopback;
mod plain_listener;
// There, no variable sets the authorities that reqwest trusts.
#[cfg(not(any(windows, target_vendor = "apple")))]
mod readme;
mod redirects;
mod reqwest_client;
#[cfg(feature = "keyed")]
#[path = "../common/scripted.rs"]
mod scripted;
mod tonic_channel;
mod world;
