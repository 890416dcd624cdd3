//! Environments by name: this machine, and others that are connected to when they are first asked for.
//!
//! All who ask for one share its connection. A failed start is told at once, tried again at growing pauses while somebody may
//! still want it, and kept for nobody: whoever asks a moment later has it tried anew.

mod attempts;
mod dial;
mod error;
mod remote;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

pub use dial::Dial;
pub use error::EnvironmentError;
use remote::Remote;

use super::session::Client;
use crate::environment::{Environment, LocalConfig};

/// The name of this machine's own environment (15.1).
pub const LOCAL: &str = "local";
/// The longest name, in characters (15.1). Fixed by the wire.
const LONGEST_NAME: usize = 64;

/// How it stands with an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is a connection.
    Ready,
    /// It is being connected to, is coming back after a loss, or is tried again in a moment.
    Pending,
    /// It was asked for, and there is no connection.
    Disconnected,
    /// Nobody has asked for it yet.
    Unknown,
}

impl State {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Pending => "pending",
            Self::Disconnected => "disconnected",
            Self::Unknown => "unknown",
        }
    }
}

/// What is known of an environment without asking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How it stands.
    pub state: State,
    /// It rests: nothing connects to it until it is resumed. A connection that works stays.
    pub paused: bool,
    /// Why it is not ready, where that is known: a sentence without secrets.
    pub reason: Option<String>,
}

#[derive(Clone)]
enum Entry {
    Local(Arc<Environment>),
    Remote(Arc<Remote>),
}

/// Environments by name. Clones share them; dropping the last ends the local one, the attempts, and the connections that
/// nobody holds.
#[derive(Clone, Default)]
pub struct Environments(Arc<Owner>);

#[derive(Default)]
struct Owner(Mutex<BTreeMap<String, Entry>>);

impl Drop for Owner {
    fn drop(&mut self) {
        for entry in self.0.get_mut().values() {
            if let Entry::Remote(remote) = entry {
                drop(remote.give_up());
            }
        }
    }
}

impl std::fmt::Debug for Environments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl Environments {
    /// Offers this machine, as [`LOCAL`]. Inside a tokio runtime.
    ///
    /// # Errors
    /// It is offered already.
    pub fn add_local(&self, config: LocalConfig) -> Result<(), EnvironmentError> {
        self.add(LOCAL, Entry::Local(Arc::new(Environment::local(config))))
    }

    /// Offers the machine that `dial` leads to. It is connected to when it is first asked for, and again when it is asked for
    /// after its connection ended for good.
    ///
    /// # Errors
    /// A name that is taken or that can't be.
    pub fn add_remote(&self, name: &str, dial: Dial) -> Result<(), EnvironmentError> {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !plain || name.is_empty() || name.len() > LONGEST_NAME || [LOCAL, "none"].contains(&name) {
            return Err(EnvironmentError::Name(name.to_owned()));
        }
        self.add(name, Entry::Remote(Arc::new(Remote::new(name, dial))))
    }

    /// Offers this machine, as [`LOCAL`], through a server that `dial` leads to.
    ///
    /// # Errors
    /// It is offered already.
    pub fn add_local_server(&self, dial: Dial) -> Result<(), EnvironmentError> {
        self.add(LOCAL, Entry::Remote(Arc::new(Remote::new(LOCAL, dial))))
    }

    fn add(&self, name: &str, entry: Entry) -> Result<(), EnvironmentError> {
        match self.0.0.lock().entry(name.to_owned()) {
            std::collections::btree_map::Entry::Occupied(_) => Err(EnvironmentError::Taken(name.to_owned())),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(entry);
                Ok(())
            }
        }
    }

    /// Offers it no longer. Its connection ends for everybody, and with it its session.
    ///
    /// # Errors
    /// An unknown name.
    pub async fn remove(&self, name: &str) -> Result<(), EnvironmentError> {
        let removed = self.0.0.lock().remove(name);
        match removed.ok_or_else(|| self.unknown(name))? {
            Entry::Local(_) => {}
            Entry::Remote(remote) => {
                if let Some(client) = remote.give_up() {
                    client.close().await;
                }
            }
        }
        Ok(())
    }

    /// The names there are, sorted.
    pub fn names(&self) -> Vec<String> {
        self.0.0.lock().keys().cloned().collect()
    }

    /// The environment of this name, connected to if it is not.
    ///
    /// # Errors
    /// An unknown name, one that rests, or a server that can't be reached.
    pub async fn get(&self, name: &str) -> Result<Environment, EnvironmentError> {
        match self.entry(name)? {
            Entry::Local(environment) => Ok(Environment::clone(&environment)),
            Entry::Remote(remote) => Ok(Environment::remote(remote.client().await?)),
        }
    }

    /// The connection to the environment of this name, made if there is none; none for this machine itself.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub async fn client(&self, name: &str) -> Result<Option<Client>, EnvironmentError> {
        match self.entry(name)? {
            Entry::Local(_) => Ok(None),
            Entry::Remote(remote) => remote.client().await.map(Some),
        }
    }

    /// How it stands with the environment of this name. Connects to nothing, and waits for nothing.
    ///
    /// # Errors
    /// An unknown name.
    pub fn status(&self, name: &str) -> Result<Status, EnvironmentError> {
        Ok(match self.entry(name)? {
            Entry::Local(_) => Status { state: State::Ready, paused: false, reason: None },
            Entry::Remote(remote) => remote.status(),
        })
    }

    /// Lets an environment rest: an attempt under way ends, nothing connects to it or comes back to it, and whoever asks hears
    /// so. A connection stays as long as it works. This machine never rests.
    ///
    /// # Errors
    /// An unknown name.
    pub fn pause(&self, name: &str) -> Result<(), EnvironmentError> {
        if let Entry::Remote(remote) = self.entry(name)? {
            remote.pause();
        }
        Ok(())
    }

    /// Ends the rest of an environment, as far as [`Self::pause`] has begun it.
    ///
    /// # Errors
    /// An unknown name.
    pub fn resume(&self, name: &str) -> Result<(), EnvironmentError> {
        if let Entry::Remote(remote) = self.entry(name)? {
            remote.resume();
        }
        Ok(())
    }

    /// Ends all connections, and with them their sessions. Whoever asks makes new ones.
    pub async fn close(&self) {
        let entries: Vec<_> = self.0.0.lock().values().cloned().collect();
        for entry in entries {
            if let Entry::Remote(remote) = entry
                && let Some(client) = remote.take()
            {
                client.close().await;
            }
        }
    }

    fn entry(&self, name: &str) -> Result<Entry, EnvironmentError> {
        let found = self.0.0.lock().get(name).cloned();
        found.ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &str) -> EnvironmentError {
        EnvironmentError::Unknown { name: name.to_owned(), known: self.names().join(", ") }
    }
}
