//! The way to an environment, and back to it after its connection was lost.

use std::time::Duration;

use codex_exec_server::client::{Client, ClientOptions};

use super::{Ended, Session, notice};
use crate::attach::escape::Typed;
use crate::console::io::Input;
use crate::console::signals::{Asked, Signals};
use crate::programs;
use crate::setup::Setup;
use crate::target::{TargetArgs, TargetError};

/// Between attempts to come back, at first. Our own pace: nothing outside depends on it.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The same at last. Our own pace: nothing outside depends on it.
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// How an environment is reached, also after its connection was lost for good.
pub(crate) struct Way<'a> {
    target: &'a TargetArgs,
    setup: &'a Setup,
}

impl<'a> Way<'a> {
    pub(crate) const fn new(target: &'a TargetArgs, setup: &'a Setup) -> Self {
        Self { target, setup }
    }

    /// Connects.
    ///
    /// # Errors
    /// It can't be reached, or keeps no programs.
    pub(crate) async fn connect(
        &self,
        adjust: impl FnOnce(&mut ClientOptions),
    ) -> Result<Client, TargetError> {
        programs::reach_with(self.target.find(self.setup)?, adjust).await
    }
}

impl Session<'_> {
    /// Waits until the environment can be reached again. Keys of ours are heeded meanwhile; what is typed for the program is
    /// dropped, since nobody sees what it does.
    pub(super) async fn come_back(
        &mut self,
        why: &str,
        input: &mut Input,
        input_open: &mut bool,
        signals: &mut Signals,
    ) -> Result<(), Ended> {
        if self.way.is_none() {
            return Err(Ended::Gone(format!("the connection to the exec-server was lost: {why}")));
        }
        notice(&format!("the connection is lost: {why}; coming back by itself (~. gives up)"));
        let client = {
            let way = self.way.as_ref();
            let mut back = std::pin::pin!(again(way, self.client.clone()));
            loop {
                tokio::select! {
                    back = &mut back => break back.map_err(Ended::Gone)?,
                    next = input.next(), if *input_open => match next {
                        Ok(Some(bytes)) => {
                            let found = self.escapes.take(&bytes);
                            if found.contains(&Typed::Cut) {
                                return Err(Ended::Cut);
                            }
                            if found.contains(&Typed::Detach) || self.escapes.is_leaving() {
                                return Err(Ended::Detached);
                            }
                        }
                        Ok(None) | Err(_) => *input_open = false,
                    },
                    asked = signals.next() => match asked {
                        Asked::Resize => {}
                        _ => return Err(Ended::Detached),
                    },
                }
            }
        };
        self.client = client;
        notice("the connection is back");
        Ok(())
    }
}

/// The same client once it has resumed its session, else a new one.
async fn again(way: Option<&Way<'_>>, client: Client) -> Result<Client, String> {
    let mut linked = client.linked();
    tokio::select! {
        _ = linked.wait_for(|linked| *linked) => return Ok(client),
        () = client.ended() => {}
    }
    let Some(way) = way else { return Err("there is no way back".into()) };
    let mut pause = FIRST_PAUSE;
    loop {
        match way.connect(|_| {}).await {
            Ok(client) => return Ok(client),
            Err(error) if error.may_pass() => tracing::debug!(%error, "not back yet"),
            Err(error) => return Err(error.to_string()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}
