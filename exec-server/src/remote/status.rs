//! What an attached executor tells the person who started it.

use std::fmt;
use std::time::Duration;

use crate::registry::Contract;

/// News of the attachment. Displayed as one line without any secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// The registry knows this executor.
    Registered {
        /// Decides the words (2.1, 3).
        contract: Contract,
        /// The environment, or the executor id in contract C, as the registry names it.
        id: String,
        /// Contract A: the executor's own id.
        executor: Option<String>,
    },
    /// The registry gave no registration; it is asked again.
    RegistryAway {
        /// What went wrong, as a sentence.
        reason: String,
        /// When it is asked again.
        again: Duration,
    },
    /// The websocket to the rendezvous stands.
    Attached {
        /// Its address, without path and query.
        rendezvous: String,
    },
    /// No websocket came about.
    Unattached {
        /// Its address, without path and query.
        rendezvous: String,
        /// Why it could not connect, as a sentence.
        reason: String,
        /// When it is tried again.
        again: Duration,
    },
    /// Another executor has registered with the same id and took over.
    Superseded {
        /// When this one takes its place back.
        again: Duration,
    },
    /// The websocket is gone. Programs run on, and their sessions wait to be resumed.
    Lost {
        /// What went wrong, as a sentence.
        reason: String,
        /// When it is tried again.
        again: Duration,
    },
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PROGRAM: &str = "codex exec-server";
        let id = |id: &str| -> String { id.chars().take(256).filter(|c| !c.is_control()).collect() };
        match self {
            Self::Registered { contract: Contract::Cloud, id: environment, executor } => {
                let executor = id(executor.as_deref().unwrap_or_default());
                write!(
                    f,
                    "{PROGRAM} remote executor {executor} registered in environment {}",
                    id(environment)
                )
            }
            Self::Registered { contract: Contract::Executor, id: executor, .. } => {
                write!(f, "{PROGRAM} remote executor registered with executor_id {}", id(executor))
            }
            Self::Registered { id: environment, .. } => {
                write!(f, "{PROGRAM} remote environment registered with environment_id {}", id(environment))
            }
            Self::RegistryAway { reason, again } => {
                write!(f, "{PROGRAM} could not register: {reason}; again in {}", Seconds(*again))
            }
            Self::Attached { rendezvous } => write!(f, "{PROGRAM} attached to {rendezvous}"),
            Self::Unattached { rendezvous, reason, again } => {
                write!(
                    f,
                    "{PROGRAM} could not attach to {rendezvous}: {reason}; again in {}",
                    Seconds(*again)
                )
            }
            Self::Superseded { again } => {
                write!(
                    f,
                    "{PROGRAM} lost the rendezvous: another executor seems to use the same id and took over (give each \
                     one of its own); again in {}",
                    Seconds(*again)
                )
            }
            Self::Lost { reason, again } => {
                write!(f, "{PROGRAM} lost the rendezvous: {reason}; again in {}", Seconds(*again))
            }
        }
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}
