//! Environments by name: this machine, and others that are connected to when they are first asked for.

use std::collections::BTreeMap;

use tokio::sync::Mutex;

use super::dial::Endpoint;
use super::error::ClientError;
use super::options::ClientOptions;
use super::session::Client;
use crate::environment::{Environment, LocalConfig};

/// The name of this machine's own environment (15.1).
pub const LOCAL: &str = "local";
/// The longest name, in characters (15.1). Fixed by the wire.
const LONGEST_NAME: usize = 64;

/// Why an environment can't be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EnvironmentError {
    /// Nobody has this name.
    #[error("there is no environment {name:?}; known are: {known}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A name that can't be.
    #[error(
        "{0:?} is no name for an environment: it takes 1 to 64 ASCII letters, digits, `-` and `_`, and not `none`; \
         `local` is this machine"
    )]
    Name(String),
    /// Two of the same name.
    #[error("there are two environments {0:?}; give one of them another name")]
    Taken(String),
    /// Its server can't be reached.
    #[error(transparent)]
    Connect(#[from] ClientError),
}

/// Makes the address to connect to, once for each connection.
type MakeEndpoint = Box<dyn Fn() -> Endpoint + Send + Sync>;

enum Entry {
    Local(Box<Environment>),
    Remote(Box<Other>),
}

/// A machine that is connected to when it is asked for.
struct Other {
    endpoint: MakeEndpoint,
    options: ClientOptions,
    connected: Mutex<Option<(Client, Environment)>>,
}

/// Environments by name. Dropping it ends the local one and the connections of those that nobody holds.
#[derive(Default)]
pub struct Environments(BTreeMap<String, Entry>);

impl std::fmt::Debug for Environments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Environments {
    /// Offers this machine, as [`LOCAL`]. Inside a tokio runtime.
    ///
    /// # Errors
    /// It is offered already.
    pub fn add_local(&mut self, config: LocalConfig) -> Result<(), EnvironmentError> {
        self.add(LOCAL, Entry::Local(Box::new(Environment::local(config))))
    }

    /// Offers the machine at the address that `endpoint` makes. It is connected to when it is first asked for, and again
    /// when it is asked for after its connection ended for good.
    ///
    /// # Errors
    /// A name that is taken or that can't be.
    pub fn add_remote(
        &mut self,
        name: &str,
        endpoint: impl Fn() -> Endpoint + Send + Sync + 'static,
        options: ClientOptions,
    ) -> Result<(), EnvironmentError> {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !plain || name.is_empty() || name.len() > LONGEST_NAME || [LOCAL, "none"].contains(&name) {
            return Err(EnvironmentError::Name(name.to_owned()));
        }
        let other = Other { endpoint: Box::new(endpoint), options, connected: Mutex::default() };
        self.add(name, Entry::Remote(Box::new(other)))
    }

    fn add(&mut self, name: &str, entry: Entry) -> Result<(), EnvironmentError> {
        if self.0.contains_key(name) {
            return Err(EnvironmentError::Taken(name.to_owned()));
        }
        self.0.insert(name.to_owned(), entry);
        Ok(())
    }

    /// The names there are, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The environment of this name.
    ///
    /// # Errors
    /// An unknown name, or a server that can't be reached.
    pub async fn get(&self, name: &str) -> Result<Environment, EnvironmentError> {
        let unknown = || EnvironmentError::Unknown {
            name: name.to_owned(),
            known: self.names().collect::<Vec<_>>().join(", "),
        };
        match self.0.get(name).ok_or_else(unknown)? {
            Entry::Local(environment) => Ok(Environment::clone(environment)),
            Entry::Remote(other) => {
                let Other { endpoint, options, connected } = &**other;
                // Held while connecting, so that two who ask at once share one connection.
                let mut connected = connected.lock().await;
                if let Some((_, environment)) = connected.as_ref().filter(|(client, _)| !client.has_ended()) {
                    return Ok(environment.clone());
                }
                let client = Client::connect(endpoint(), options.clone()).await?;
                let environment = Environment::remote(client.clone());
                *connected = Some((client, environment.clone()));
                Ok(environment)
            }
        }
    }
}
