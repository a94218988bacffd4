//! A box that is filled in place.

use std::ops::{Deref, DerefMut};

/// A box that is filled in place. `Box::new` makes the content on the stack and copies it, which
/// for a kept request costs as much as cloning one of its headers.
pub(super) struct Placed<T>(Box<Option<T>>);

const FILLED: &str = "it is filled when it is made";

// ===== impl Placed =====

impl<T> Placed<T> {
    /// Allocates the memory before it calls `make`.
    #[inline]
    pub(super) fn with(make: impl FnOnce() -> T) -> Self {
        let mut place = Box::<Option<T>>::default();
        *place = Some(make());
        Self(place)
    }

    pub(super) fn into_inner(self) -> T {
        self.0.expect(FILLED)
    }
}

impl<T> Deref for Placed<T> {
    type Target = T;

    #[inline]
    #[expect(clippy::expect_used, reason = "it is filled until it is taken whole")]
    fn deref(&self) -> &T {
        (*self.0).as_ref().expect(FILLED)
    }
}

impl<T> DerefMut for Placed<T> {
    #[inline]
    #[expect(clippy::expect_used, reason = "it is filled until it is taken whole")]
    fn deref_mut(&mut self) -> &mut T {
        (*self.0).as_mut().expect(FILLED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_placed_can_be_seen_and_changed_and_taken_out() {
        let mut placed = Placed::with(|| String::from("a"));
        placed.push('b');
        assert_eq!(*placed, "ab");
        assert_eq!(placed.into_inner(), "ab");
    }
}
