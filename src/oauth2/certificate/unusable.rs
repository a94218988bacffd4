//! Why nothing can be shown.

/// A certificate or a key that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unusable {
    pub(super) problem: &'static str,
    /// Whether somebody may just be writing another one.
    pub(super) may_pass: bool,
}
