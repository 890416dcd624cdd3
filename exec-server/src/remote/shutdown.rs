//! How an executor that is stopped says goodbye to the harnesses that use it.

use tokio::sync::watch;

/// Shared by the one who stops the executor and its open websocket.
#[derive(Debug, Default)]
pub(super) struct Shutdown {
    asked: watch::Sender<bool>,
    /// There is a websocket with streams that were not told yet.
    untold: watch::Sender<bool>,
}

/// As long as it lives, its websocket is to say goodbye.
pub(super) struct Serving<'a>(&'a Shutdown);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.said();
    }
}

impl Shutdown {
    pub(super) fn serving(&self) -> Serving<'_> {
        self.untold.send_replace(true);
        Serving(self)
    }

    /// Waits until the executor is to stop. Cancel-safe.
    pub(super) async fn asked(&self) {
        // Only fails when the sender is gone, and we hold it.
        let _ = self.asked.subscribe().wait_for(|asked| *asked).await;
    }

    /// Every harness has been told that the executor stops.
    pub(super) fn said(&self) {
        self.untold.send_replace(false);
    }

    /// Has the websocket say goodbye, if there is one, and waits until the rendezvous has taken that.
    pub(super) async fn say(&self) {
        self.asked.send_replace(true);
        let _ = self.untold.subscribe().wait_for(|untold| !untold).await;
    }
}
