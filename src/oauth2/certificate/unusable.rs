//! The error of an unusable client certificate.

/// A certificate or a key that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unusable {
    pub(super) problem: &'static str,
    /// Whether the file may be half written.
    pub(super) may_pass: bool,
}
