//! The one connection to the exec-server that all forwards share, made again whenever it was lost for good.

use std::sync::Arc;
use std::time::Duration;

use codex_exec_server::client::Client;
use tokio::sync::{Mutex, Semaphore};

use crate::reach::{self, Unreached};
use crate::setup::Setup;
use crate::target::TargetArgs;

/// Connections that are carried at once; more wait to be accepted. Servers bear 128 streams, listeners among them.
/// Our own pace: nothing outside depends on it.
pub(super) const MOST_CONNECTIONS: usize = 100;
/// Between attempts to connect again, at first and at most. Our own pace: nothing outside depends on it.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
/// See above. Our own pace: nothing outside depends on it.
const MOST_PAUSE: Duration = Duration::from_secs(2);

/// The verb's own name.
pub(super) const VERB: &str = "port-forward";

/// Says one sentence to the user.
pub(super) fn say(sentence: &str) {
    reach::say(VERB, sentence);
}

/// A pause that doubles with each failure.
#[derive(Debug)]
pub(super) struct Pause(Duration);

impl Pause {
    pub(super) fn new() -> Self {
        Self(LEAST_PAUSE)
    }

    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(MOST_PAUSE);
    }
}

/// Gives out the connection.
pub(crate) struct Hub {
    target: TargetArgs,
    setup: Setup,
    client: Mutex<Client>,
    /// Caps the connections that are carried.
    pub(super) places: Arc<Semaphore>,
}

impl Hub {
    /// Connects for the first time.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(super) async fn new(target: TargetArgs, setup: Setup) -> Result<Self, Unreached> {
        let client = reach::connect(&target, &setup).await?;
        Ok(Self::of(client, target, setup))
    }

    /// With a connection that there is.
    pub(crate) fn of(client: Client, target: TargetArgs, setup: Setup) -> Self {
        Self { target, setup, client: Mutex::new(client), places: Arc::new(Semaphore::new(MOST_CONNECTIONS)) }
    }

    /// A connection that has not ended; waits until there is one again.
    ///
    /// # Errors
    /// Only what no further attempt can cure, such as a token that is not good any more.
    pub(super) async fn client(&self) -> Result<Client, Unreached> {
        let mut client = self.client.lock().await;
        let (mut pause, mut told) = (Pause::new(), None);
        while client.has_ended() {
            match reach::connect(&self.target, &self.setup).await {
                Ok(new) => *client = new,
                Err(unreached) if unreached.again => {
                    // The reason may change: one that is paused was away before.
                    if let Some(reason) = unreached.sentence.filter(|reason| told.as_ref() != Some(reason)) {
                        say(&format!("the exec-server is away, trying again: {reason}"));
                        told = Some(reason);
                    }
                    pause.wait().await;
                }
                Err(unreached) => return Err(unreached),
            }
        }
        if told.is_some() {
            say("the exec-server is back");
        }
        Ok(client.clone())
    }
}
