//! A gate that holds requests until it is opened. With it the phases fix the order of events
//! without sleeping.

use tokio::sync::watch;

pub(crate) struct Gate {
    is_open: watch::Sender<bool>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { is_open: watch::Sender::new(true) }
    }

    pub(crate) fn close(&self) {
        self.is_open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.is_open.send_replace(true);
    }

    pub(crate) async fn pass(&self) {
        let mut is_open = self.is_open.subscribe();
        is_open.wait_for(|is_open| *is_open).await.expect("the gate is still there");
    }
}
