//! Puts the newest record back into a store that has lost it.
//!
//! The guard looks every few seconds if a refresh token is at stake, and every half minute
//! otherwise. It ends with the last handle of its source.

use std::sync::{Arc, Weak};

use tokio::{runtime::Handle, time::sleep};

use super::{
    member::{Member, Place, locked},
    protocol,
};
use crate::source::TokenSource;

impl<S: TokenSource> Member<S> {
    /// Keeps the newest record, and makes sure that the store has it.
    pub(super) fn hold(self: &Arc<Self>, place: &Place, record: &super::record::Record) {
        if place.is_keyed {
            return;
        }
        self.keep(place, record);
        let Ok(runtime) = Handle::try_current() else { return };
        let mut guard = locked(&self.guard);
        if guard.as_ref().is_none_or(tokio::task::AbortHandle::is_finished) {
            *guard = Some(runtime.spawn(watch(Arc::downgrade(self))).abort_handle());
        }
    }

    /// Looks once. It does not report a failure, as the next look follows soon.
    async fn look(&self) {
        let Ok(keys) = self.settings.seal.keys().await else { return };
        let place = Place { name: self.settings.name.to_string(), keys, is_keyed: false };
        let Ok(seen) = self.load(&place).await else { return };
        let held = self.held(&place);
        let (record, now) = (seen.record.as_ref(), seen.now());
        if let Some(record) = protocol::put_back(&self.rules(), record, held.as_deref(), now) {
            // If another process was faster, the next look sees its record.
            drop(self.swap(&place, &seen.version, &record).await);
        } else if let Some(record) = record {
            self.keep(&place, record);
        }
    }
}

async fn watch<S: TokenSource>(member: Weak<Member<S>>) {
    loop {
        let Some(pause) = member.upgrade().map(|member| member.guard_interval()) else { return };
        sleep(pause).await;
        let Some(member) = member.upgrade() else { return };
        member.look().await;
    }
}
