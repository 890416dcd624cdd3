//! The capabilities as traits, this machine that has them, and what this machine is.

pub mod configuration;
mod events;
pub mod info;
pub mod local;
pub(crate) mod machine;
pub mod traits;

use std::sync::Arc;

pub use configuration::Configuration;
pub use events::ProcessEvent;
pub use local::Local;
pub use machine::LocalConfig;
pub use traits::{
    BodyError, CallError, Discovery, Events, Files, Http, MissingState, Pieces, Processes, Tcp,
};
pub(crate) use traits::{discovery_methods, program_methods, tcp_methods};

use crate::protocol::environment::EnvironmentInfo;

#[cfg(test)]
pub(crate) mod tests;

/// The capabilities of one machine: of this one here, or of another through a client.
#[derive(Clone)]
pub struct Environment {
    /// Starts programs and talks to them.
    pub processes: Arc<dyn Processes>,
    /// Reads and changes files.
    pub files: Arc<dyn Files>,
    /// Makes HTTP requests.
    pub http: Arc<dyn Http>,
    /// Tells what is configured and installed. Servers that can't do a method refuse it with `-32601`.
    pub discovery: Arc<dyn Discovery>,
    /// Makes connections, and takes them.
    pub tcp: Arc<dyn Tcp>,
    /// What the machine is; none from servers before 0.169, which tell it when asked with `environment/info`.
    pub info: Option<EnvironmentInfo>,
}

impl Environment {
    /// This machine. Inside a tokio runtime.
    pub fn local(config: LocalConfig) -> Self {
        let local = Local::new(config);
        let info = Some(local.info().clone());
        Self::of(local, info)
    }

    /// One thing that has all capabilities.
    pub(crate) fn of(
        machine: impl Processes + Files + Http + Discovery + Tcp + 'static,
        info: Option<EnvironmentInfo>,
    ) -> Self {
        let machine = Arc::new(machine);
        Self {
            processes: Arc::clone(&machine) as _,
            files: Arc::clone(&machine) as _,
            http: Arc::clone(&machine) as _,
            discovery: Arc::clone(&machine) as _,
            tcp: machine,
            info,
        }
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("info", &self.info).finish_non_exhaustive()
    }
}
