//! The name of the cache that an event, a metric or an error is about.

use std::{fmt, sync::Arc};

#[cfg(feature = "metrics")]
use metrics::{Key, SharedString};

#[cfg(feature = "metrics")]
use super::names;
use crate::error::TokenError;

/// The name of a cache that has none.
#[cfg(any(feature = "tracing", feature = "metrics"))]
const UNNAMED: &str = "default";

/// The name of a cache, or of its source. A clone costs a reference count.
#[derive(Clone)]
pub(crate) struct Label(Arc<Inner>);

struct Inner {
    name: Option<Arc<str>>,
    /// The keys of the metrics that count each use, made once, so that a use allocates nothing.
    #[cfg(feature = "metrics")]
    seconds_left: Key,
    #[cfg(feature = "metrics")]
    suspect_uses: Key,
    #[cfg(all(feature = "keyed", feature = "metrics"))]
    key_hits: Key,
}

// ===== impl Label =====

impl Label {
    /// An empty name counts as none.
    pub(crate) fn new(name: Option<Arc<str>>) -> Self {
        let name = name.filter(|name| !name.is_empty());
        #[cfg(feature = "metrics")]
        let key = |number: &'static str| {
            Key::from_parts(number, vec![metrics::Label::new("source", shared(name.as_ref()))])
        };
        Self(Arc::new(Inner {
            #[cfg(feature = "metrics")]
            seconds_left: key(names::SECONDS_LEFT),
            #[cfg(feature = "metrics")]
            suspect_uses: key(names::SUSPECT_USES),
            #[cfg(all(feature = "keyed", feature = "metrics"))]
            key_hits: key(names::KEY_HITS),
            name,
        }))
    }

    /// The name, if there is one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// The name, shared.
    pub(crate) fn shared(&self) -> Option<Arc<str>> {
        self.0.name.clone()
    }

    /// This label, unless only the other one has a name.
    #[cfg(feature = "oauth2")]
    pub(crate) fn or(&self, other: &Self) -> Self {
        if self.0.name.is_some() { self.clone() } else { other.clone() }
    }

    /// Adds the name to the error, for a caller of the cache.
    pub(crate) fn on(&self, error: TokenError) -> TokenError {
        match &self.0.name {
            Some(name) => error.named(name),
            None => error,
        }
    }

    /// The value of the field `source` in events.
    #[cfg(feature = "tracing")]
    pub(super) fn text(&self) -> &str {
        self.name().unwrap_or(UNNAMED)
    }

    /// The value of the label `source`.
    #[cfg(feature = "metrics")]
    pub(super) fn value(&self) -> SharedString {
        shared(self.0.name.as_ref())
    }

    #[cfg(feature = "metrics")]
    pub(super) fn seconds_left(&self) -> &Key {
        &self.0.seconds_left
    }

    #[cfg(all(feature = "keyed", feature = "metrics"))]
    pub(super) fn key_hits(&self) -> &Key {
        &self.0.key_hits
    }

    #[cfg(feature = "metrics")]
    pub(super) fn suspect_uses(&self) -> &Key {
        &self.0.suspect_uses
    }
}

impl Default for Label {
    fn default() -> Self {
        Self::new(None)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

#[cfg(feature = "metrics")]
fn shared(name: Option<&Arc<str>>) -> SharedString {
    name.map_or(SharedString::const_str(UNNAMED), |name| Arc::clone(name).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_name_is_none() {
        assert_eq!(Label::new(Some("".into())).name(), None);
        assert_eq!(Label::new(Some("billing".into())).name(), Some("billing"));
    }

    #[test]
    fn only_a_name_is_put_into_an_error() {
        let error = || TokenError::transient("busy");
        assert_eq!(Label::default().on(error()).to_string(), "busy");
        assert_eq!(Label::new(Some("billing".into())).on(error()).to_string(), "billing: busy");
    }
}
