//! The layer at home in the stacks that people have, each over a real socket.

#[path = "../../examples/loopback/mod.rs"]
mod loopback;
