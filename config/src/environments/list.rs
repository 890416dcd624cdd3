//! What environments there are, and where each is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use codex_secret::Secret;

use crate::error::ConfigError;

/// The file in the home directory that released clients share.
pub const SHARED_FILE: &str = "environments.toml";
/// Ours, for the kinds of addresses and the keys that released clients refuse.
pub const OWN_FILE: &str = "exec-server-environments.toml";
/// The id of this machine (protocol.md 15.1).
pub const LOCAL: &str = "local";
/// The id that stands for no environment (protocol.md 15.1).
pub const NONE: &str = "none";
/// The id of the environment that `CODEX_EXEC_SERVER_URL` names (protocol.md 15.1).
pub const REMOTE: &str = "remote";
/// The longest id, in characters (protocol.md 15.1). Fixed by the wire.
const LONGEST_ID: usize = 64;

/// Why the environments can't be told.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentsError {
    /// A file can't be read, is no TOML, or has a key or a type that can't be.
    #[error("{}", .0.one_line())]
    File(#[from] ConfigError),
    /// A file says something that makes no sense.
    #[error("{}: {message}", path.display())]
    Meaning {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// `CODEX_EXEC_SERVER_URL` can't be used.
    #[error("CODEX_EXEC_SERVER_URL can't be used: {0}")]
    Variable(String),
}

/// Where an environment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A server's `ws://` or `wss://` URL.
    Url {
        /// Used as it is.
        url: String,
        /// Sent as a bearer token.
        bearer: Option<Secret>,
        /// For the connection; the client's default when absent.
        connect_time: Option<Duration>,
    },
    /// A program that serves on its stdin and stdout.
    Program {
        /// The file to execute; a bare name is searched in `PATH`.
        program: PathBuf,
        /// The arguments after the program's name.
        args: Vec<String>,
        /// Variables added to ours.
        env: BTreeMap<String, String>,
        /// Its working directory, absolute.
        cwd: Option<PathBuf>,
    },
    /// A server's Unix socket; ours alone.
    Unix {
        /// The socket's path, absolute.
        path: PathBuf,
        /// A file that holds a bearer token.
        token_file: Option<PathBuf>,
    },
    /// An environment that a registry knows; ours alone.
    Registry {
        /// The registry's address.
        url: String,
        /// The id under which the executor registered.
        environment_id: String,
        /// A file that holds the registry's access token.
        token_file: Option<PathBuf>,
    },
}

/// One environment that is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name: ASCII letters, digits, `-` and `_`, at most 64.
    pub id: String,
    /// Where it is.
    pub place: Place,
    /// For the handshake; the client's default when absent.
    pub initialize_time: Option<Duration>,
    /// Somebody lets it rest: nothing is to connect to it.
    pub paused: bool,
}

/// The environment in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InUse {
    /// This machine.
    Local,
    /// No environment at all; why, as a sentence.
    None(String),
    /// The environment with this id.
    Named(String),
}

/// All environments that are written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environments {
    /// Whether this machine is offered as [`LOCAL`].
    pub include_local: bool,
    /// The one that is used when none is named.
    pub in_use: InUse,
    /// All but this machine, in the order of the files.
    pub list: Vec<Named>,
}

impl Environments {
    /// The one with this id.
    pub fn get(&self, id: &str) -> Option<&Named> {
        self.list.iter().find(|named| named.id == id)
    }

    /// Says that there is no such environment, and which there are.
    pub fn unknown(&self, id: &str) -> String {
        let known: Vec<&str> = self.ids().collect();
        match known.as_slice() {
            [] => format!(
                "there is no environment {id:?}, nor any other; add one with `codex exec-server env add`"
            ),
            known => format!("there is no environment {id:?}; there are: {}", known.join(", ")),
        }
    }

    /// The ids there are, in the order of the files, this machine first where it is offered.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let local = self.include_local.then_some(LOCAL);
        local.into_iter().chain(self.list.iter().map(|named| named.id.as_str()))
    }
}

/// Whether an environment can have this id.
///
/// # Errors
/// What an id has to be.
pub fn check_id(id: &str) -> Result<(), String> {
    let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !plain || id.is_empty() || id.len() > LONGEST_ID || [LOCAL, NONE].contains(&id) {
        return Err(format!(
            "{id:?} is no name for an environment: it takes 1 to {LONGEST_ID} ASCII letters, digits, `-` and `_`, and \
             neither `{LOCAL}`, which is this machine, nor `{NONE}`"
        ));
    }
    Ok(())
}
