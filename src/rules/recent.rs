//! The pass that one service used last.

use std::sync::Arc;

use http::{Extensions, Uri};

use super::{destination::Destination, pass::Pass};

/// Spares a service that is used again and again the look-up of its pass, which costs as much as
/// all else that the layer does. A clone starts anew: one that is made for each request pays
/// nothing for this.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    pass: Option<Arc<Pass>>,
    /// Whether there was a request already.
    is_used: bool,
}

// ===== impl Recent =====

impl Recent {
    /// The token for the request, where it is known at once.
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
        // With several origins the first one stays, or they would take turns. What extensions ask
        // for is for that request alone.
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
