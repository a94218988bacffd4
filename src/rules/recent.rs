//! The pass that one service used last.

use std::sync::Arc;

use http::{Extensions, Uri};

use super::{destination::Destination, pass::Pass};

/// Saves a service that is used repeatedly the look-up of its pass, which costs as much as
/// everything else that the layer does. A clone starts empty, so that a clone for a single request
/// pays nothing for this.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    pass: Option<Arc<Pass>>,
    /// Whether the service has had a request already.
    is_used: bool,
}

// ===== impl Recent =====

impl Recent {
    /// The token for the request, if it is known at once.
    #[inline]
    pub(crate) fn ready(
        &mut self,
        uri: &Uri,
        extensions: &Extensions,
        look_up: impl FnOnce(Destination<'_>) -> Option<Arc<Pass>>,
    ) -> Option<Arc<Pass>> {
        let destination = Destination::of(uri);
        let is_its = match &self.pass {
            Some(pass) => pass.is_for(destination),
            None => self.is_used,
        };
        if is_its && extensions.is_empty() {
            if let Some(pass) = self.pass.as_ref().filter(|pass| pass.holds()) {
                return Some(Arc::clone(pass));
            }
        }
        let found = look_up(destination);
        // With several origins the first one stays; otherwise they would replace each other in
        // turn. What extensions ask for holds for that request alone.
        if is_its && extensions.is_empty() {
            self.pass.clone_from(&found);
        }
        self.is_used = true;
        found
    }
}

impl Clone for Recent {
    fn clone(&self) -> Self {
        Self::default()
    }
}
