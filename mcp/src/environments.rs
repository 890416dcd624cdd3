//! The environments that are lent, each connected to when it is first asked for.

use std::fmt;

use codex_exec_protocol::encode::NoParams;
use codex_exec_protocol::environment::{EnvironmentInfo, Info};
use codex_exec_server::client::{Client, ClientOptions, Endpoint};
use codex_exec_server::environment::Environment;
use codex_exec_server::interactive::{Bounds, Interactive};
use tokio::sync::Mutex;

use crate::outcome::Refused;

/// Says where to connect to and how, once for each connection; else why not, as a sentence.
type Dial = Box<dyn Fn() -> Result<(Endpoint, ClientOptions), String> + Send + Sync>;

/// Environments by name: nobody who uses the tools reaches any other. The first one is the default.
#[derive(Default)]
pub struct Environments {
    entries: Vec<Entry>,
    bounds: Bounds,
}

struct Entry {
    name: String,
    dial: Dial,
    connected: Mutex<Option<Connected>>,
}

/// One that is connected.
#[derive(Clone)]
pub(crate) struct Connected {
    pub(crate) name: String,
    client: Client,
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
        Self { entries: Vec::new(), bounds }
    }

    /// Lends the environment that `dial` leads to. It is connected to when it is first asked for, and again when it is asked
    /// for after its connection ended for good.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        dial: impl Fn() -> Result<(Endpoint, ClientOptions), String> + Send + Sync + 'static,
    ) {
        self.entries.push(Entry { name: name.into(), dial: Box::new(dial), connected: Mutex::default() });
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
        // Held while connecting, so that two who ask at once share one connection.
        let mut connected = entry.connected.lock().await;
        if let Some(there) = connected.as_ref().filter(|there| !there.client.has_ended()) {
            return Ok(there.clone());
        }
        let there = self.connect(entry).await?;
        *connected = Some(there.clone());
        Ok(there)
    }

    async fn connect(&self, entry: &Entry) -> Result<Connected, Refused> {
        let unreachable = |why| Refused(format!("the environment {:?} can't be reached: {why}", entry.name));
        let (endpoint, options) = (entry.dial)().map_err(unreachable)?;
        let client =
            Client::connect(endpoint, options).await.map_err(|error| unreachable(error.to_string()))?;
        let info = match client.environment_info() {
            Some(info) => Some(info),
            // Older servers tell it when they are asked, and the oldest do not know it.
            None => client.call::<Info>(&NoParams).await.ok(),
        };
        let programs = Interactive::new(Environment::remote(client.clone()), self.bounds.clone());
        Ok(Connected { name: entry.name.clone(), client, programs, info })
    }

    /// What is known of each without connecting to it.
    pub(crate) async fn known(&self) -> Vec<(&str, Option<Connected>)> {
        let mut all = Vec::new();
        for entry in &self.entries {
            all.push((entry.name.as_str(), entry.connected.lock().await.clone()));
        }
        all
    }

    /// The environment where a program of this id was started.
    pub(crate) async fn with_program(&self, id: &str) -> Result<Connected, Refused> {
        for (_, there) in self.known().await {
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

    /// Ends the connections, and with them their sessions and what runs in those.
    pub async fn close(&self) {
        for entry in &self.entries {
            if let Some(there) = entry.connected.lock().await.take() {
                there.client.close().await;
            }
        }
    }
}
