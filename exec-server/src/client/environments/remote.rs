//! One environment that is connected to when it is asked for.

use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::attempts::Attempts;
use super::error::EnvironmentError;
use super::{Dial, State, Status};
use crate::client::session::Client;

/// Whether it may be connected to, as far as this process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Yes,
    Paused,
    Gone,
}

/// One environment. Its owner calls [`Self::give_up`] before it lets go.
pub(super) struct Remote {
    name: String,
    dial: Dial,
    wanted: watch::Sender<Wanted>,
    /// Held while connecting: those who ask at once share one attempt.
    flight: tokio::sync::Mutex<()>,
    slot: Mutex<Slot>,
}

struct Slot {
    attempts: Attempts,
    connecting: bool,
    client: Option<Client>,
    /// Tries again without being asked.
    retrying: Option<JoinHandle<()>>,
}

/// Ends the state of being connected to, also when whoever asked stops waiting.
struct Connecting<'a>(&'a Mutex<Slot>);

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.lock().connecting = false;
    }
}

impl Remote {
    pub(super) fn new(name: &str, dial: Dial) -> Self {
        let slot = Slot { attempts: Attempts::new(), connecting: false, client: None, retrying: None };
        Self {
            name: name.to_owned(),
            dial,
            wanted: watch::Sender::new(Wanted::Yes),
            flight: tokio::sync::Mutex::default(),
            slot: Mutex::new(slot),
        }
    }

    /// The one connection, made if there is none.
    pub(super) async fn client(self: &Arc<Self>) -> Result<Client, EnvironmentError> {
        let _flight = self.flight.lock().await;
        if let Some(client) = self.live() {
            return Ok(client);
        }
        if let Err(refusal) = self.may_connect() {
            self.slot.lock().attempts.stop();
            return Err(refusal);
        }
        self.slot.lock().attempts.ask(Instant::now())?;
        let attempt = self.attempt().await;
        if attempt.is_err() {
            self.retry_later();
        }
        attempt
    }

    /// What is known of it; connects to nothing, and waits for nothing.
    pub(super) fn status(&self) -> Status {
        let paused = self.dial.rests();
        let slot = self.slot.lock();
        let told = |state, reason| Status { state, paused, reason };
        match &slot.client {
            Some(client) if !client.has_ended() => match *client.linked().borrow() {
                true => told(State::Ready, None),
                false => told(State::Pending, Some("the connection was lost, and is coming back".into())),
            },
            _ if slot.connecting => told(State::Pending, slot.attempts.reason()),
            Some(client) if slot.attempts.reason().is_none() => {
                told(State::Disconnected, client.end_reason())
            }
            _ => match (slot.attempts.reason(), slot.attempts.next()) {
                (None, _) => told(State::Unknown, None),
                (reason, Some(_)) if !paused => told(State::Pending, reason),
                (reason, _) => told(State::Disconnected, reason),
            },
        }
    }

    /// Lets it rest: an attempt under way ends, and none is made until [`Self::resume`]. A connection stays as long as it works.
    pub(super) fn pause(&self) {
        self.dial.set_paused(true);
        self.wanted.send_replace(Wanted::Paused);
        self.slot.lock().attempts.stop();
    }

    /// Ends the rest; the next one who asks has it tried at once.
    pub(super) fn resume(&self) {
        self.dial.set_paused(false);
        self.wanted.send_replace(Wanted::Yes);
        self.slot.lock().attempts.forget();
    }

    /// Nobody is to connect any more. The connection that there was.
    pub(super) fn give_up(&self) -> Option<Client> {
        self.wanted.send_replace(Wanted::Gone);
        let mut slot = self.slot.lock();
        slot.attempts.stop();
        if let Some(retrying) = slot.retrying.take() {
            retrying.abort();
        }
        slot.client.take()
    }

    /// Lets the connection go; the next one who asks makes another.
    pub(super) fn take(&self) -> Option<Client> {
        let mut slot = self.slot.lock();
        slot.attempts.stop();
        slot.client.take()
    }

    /// A connection that has not ended. While it rests, only one that works: it does not come back.
    fn live(&self) -> Option<Client> {
        let client = self.slot.lock().client.clone().filter(|client| !client.has_ended())?;
        let works = *client.linked().borrow();
        (works || !self.dial.rests()).then_some(client)
    }

    fn may_connect(&self) -> Result<(), EnvironmentError> {
        let name = || self.name.clone();
        match *self.wanted.borrow() {
            Wanted::Gone => Err(EnvironmentError::Removed(name())),
            _ if self.dial.rests() => Err(EnvironmentError::Paused(name())),
            _ => Ok(()),
        }
    }

    /// Connects, unless it comes to rest meanwhile. Held by the flight.
    async fn attempt(&self) -> Result<Client, EnvironmentError> {
        let mut wanted = self.wanted.subscribe();
        self.slot.lock().connecting = true;
        let _connecting = Connecting(&self.slot);
        let connecting = async {
            let (endpoint, options) = self.dial.make().map_err(EnvironmentError::Dial)?;
            Ok(Client::connect(endpoint, options).await?)
        };
        let attempt: Result<Client, EnvironmentError> = tokio::select! {
            attempt = connecting => attempt,
            _ = wanted.wait_for(|wanted| *wanted != Wanted::Yes) => {
                self.may_connect()?;
                return Err(EnvironmentError::Paused(self.name.clone()));
            }
        };
        let mut slot = self.slot.lock();
        match &attempt {
            Ok(client) => {
                slot.attempts.forget();
                slot.client = Some(client.clone());
            }
            Err(error) => {
                let curable = error.may_pass();
                slot.attempts.failed(Instant::now(), error.clone(), curable, &mut rand::random::<f64>);
            }
        }
        attempt
    }

    /// Sees to it that a failed attempt is repeated when its time comes.
    fn retry_later(self: &Arc<Self>) {
        let mut slot = self.slot.lock();
        let is_going = slot.retrying.as_ref().is_some_and(|retrying| !retrying.is_finished());
        if slot.attempts.next().is_some() && !is_going {
            slot.retrying = Some(tokio::spawn(retry(Arc::downgrade(self))));
        }
    }
}

/// Repeats attempts at their times, until one works or no more is due.
async fn retry(remote: Weak<Remote>) {
    loop {
        let next = remote.upgrade().and_then(|remote| remote.slot.lock().attempts.next());
        let Some(next) = next else { return };
        tokio::time::sleep_until(next.into()).await;
        let Some(remote) = remote.upgrade() else { return };
        let _flight = remote.flight.lock().await;
        // Somebody who asked meanwhile may have moved the time, or have made it.
        let is_due = remote.slot.lock().attempts.next().is_some_and(|next| next <= Instant::now());
        if remote.live().is_some() || remote.may_connect().is_err() {
            remote.slot.lock().attempts.stop();
        } else if is_due {
            // A failure is kept for whoever asks.
            let _ = remote.attempt().await;
        }
    }
}
