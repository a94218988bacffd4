//! Why nothing can be shown.

/// A certificate or a key that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::oauth2) struct Unusable {
    pub(in crate::oauth2) problem: &'static str,
    /// Whether somebody may just be writing another one.
    pub(super) may_pass: bool,
}
