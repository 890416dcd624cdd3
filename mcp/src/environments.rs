//! The environments that are lent, each connected to when it is first asked for.

use std::fmt;

use codex_exec_protocol::SessionId;
use codex_exec_protocol::encode::NoParams;
use codex_exec_protocol::environment::{EnvironmentInfo, Info};
use codex_exec_server::client::{self, Client, Dial, EnvironmentError, LOCAL, State, Status};
use codex_exec_server::environment::Environment;
use codex_exec_server::interactive::{Bounds, Interactive};
use parking_lot::Mutex;

use crate::outcome::Refused;

/// Environments by name: nobody who uses the tools reaches any other. The first one is the default.
#[derive(Default)]
pub struct Environments {
    manager: client::Environments,
    entries: Vec<Entry>,
    bounds: Bounds,
}

struct Entry {
    name: String,
    /// What is known of its last connection.
    last: Mutex<Option<Connected>>,
}

/// One that is connected.
#[derive(Clone)]
pub(crate) struct Connected {
    pub(crate) name: String,
    session: SessionId,
    /// What runs there.
    pub(crate) programs: Interactive,
    /// What the machine is, where its server says it.
    pub(crate) info: Option<EnvironmentInfo>,
}

impl Connected {
    /// Its capabilities.
    pub(crate) fn environment(&self) -> &Environment {
        self.programs.environment()
    }
}

impl fmt::Debug for Environments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Environments {
    /// None yet; `bounds` hold for the programs of each.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// Lends the environment that `dial` leads to. It is connected to when it is first asked for, and again when it is asked
    /// for after its connection ended for good.
    ///
    /// # Errors
    /// A name that is taken or that can't be.
    pub fn add(&mut self, name: impl Into<String>, dial: Dial) -> Result<(), EnvironmentError> {
        let name = name.into();
        match name == LOCAL {
            true => self.manager.add_local_server(dial)?,
            false => self.manager.add_remote(&name, dial)?,
        }
        self.entries.push(Entry { name, last: Mutex::default() });
        Ok(())
    }

    /// Their names, the default first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// The environment of this name, or the default.
    pub(crate) async fn get(&self, name: Option<&str>) -> Result<Connected, Refused> {
        let entry = match name {
            None => self.entries.first(),
            Some(name) => self.entries.iter().find(|entry| entry.name == name),
        };
        let Some(entry) = entry else {
            let known = self.names().collect::<Vec<_>>().join(", ");
            let asked: String = name.unwrap_or_default().chars().take(80).collect();
            return Err(Refused(format!("there is no environment {asked:?}; there are: {known}")));
        };
        let unreachable =
            |why: String| Refused(format!("the environment {:?} can't be reached: {why}", entry.name));
        let client = match self.manager.client(&entry.name).await {
            Ok(Some(client)) => client,
            Ok(None) => return Err(unreachable("it has no server".into())),
            Err(error @ EnvironmentError::Paused(_)) => return Err(Refused(error.to_string())),
            Err(error) => return Err(unreachable(error.to_string())),
        };
        let session = client.session_id();
        let known = || entry.last.lock().clone().filter(|there| there.session == session);
        if let Some(there) = known() {
            return Ok(there);
        }
        let info = info(&client).await;
        let mut last = entry.last.lock();
        // Another may have asked for it meanwhile: programs are looked for in one place.
        if let Some(there) = last.clone().filter(|there| there.session == session) {
            return Ok(there);
        }
        let programs = Interactive::new(Environment::remote(client), self.bounds.clone());
        let there = Connected { name: entry.name.clone(), session, programs, info };
        *last = Some(there.clone());
        Ok(there)
    }

    /// What is known of each without connecting to it.
    pub(crate) fn known(&self) -> Vec<(&str, Status, Option<Connected>)> {
        let unknown = || Status { state: State::Unknown, paused: false, reason: None };
        self.entries
            .iter()
            .map(|entry| {
                let status = self.manager.status(&entry.name).unwrap_or_else(|_| unknown());
                (entry.name.as_str(), status, entry.last.lock().clone())
            })
            .collect()
    }

    /// The environment where a program of this id was started.
    pub(crate) async fn with_program(&self, id: &str) -> Result<Connected, Refused> {
        for (_, _, there) in self.known() {
            if let Some(there) = there.filter(|there| there.programs.knows(id)) {
                return Ok(there);
            }
        }
        let asked: String = id.chars().take(80).collect();
        Err(Refused(format!(
            "there is no process {asked:?}: it was never started here, or it ended and made room for others; exec_list \
             tells which there are"
        )))
    }

    /// Whether a program of this id is known.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.known().iter().any(|(_, _, there)| there.as_ref().is_some_and(|there| there.programs.knows(id)))
    }

    /// Ends the connections, and with them their sessions and what runs in those.
    pub async fn close(&self) {
        self.manager.close().await;
        for entry in &self.entries {
            drop(entry.last.lock().take());
        }
    }
}

/// What the machine is; older servers tell it when they are asked, and the oldest do not know it.
async fn info(client: &Client) -> Option<EnvironmentInfo> {
    match client.environment_info() {
        Some(info) => Some(info),
        None => client.call::<Info>(&NoParams).await.ok(),
    }
}
