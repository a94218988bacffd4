//! Sending a request again, and what is kept for it.

mod buffer;
mod clone_body;
mod head;
mod no_replay;
mod strategy;

pub(super) use self::head::KeptHead;
pub use self::{
    buffer::{BufferBody, KeptBody, ReplayBody},
    clone_body::CloneBody,
    no_replay::NoReplay,
    strategy::Replay,
};
