//! The `testing` module.
