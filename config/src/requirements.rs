//! `requirements.toml`: what the machine's administrator demands, above every layer (login.md 3.4, 12.1).

use std::path::Path;

use serde::Deserialize;

use crate::error::ConfigError;
use crate::layer;
use crate::shape::{LoginMethod, StoreMode, WorkspaceIds};

/// The demands that concern this program. Others in the file concern the agent and are not read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Requirements {
    pub(crate) cli_auth_credentials_store: Option<StoreMode>,
    pub(crate) allowed_login_methods: Option<Vec<LoginMethod>>,
    pub(crate) allowed_chatgpt_workspaces: Option<WorkspaceIds>,
}

impl Requirements {
    /// Reads the system's file; a missing one demands nothing.
    ///
    /// # Errors
    /// It can't be read or understood: a demand that is not understood may not be passed over.
    pub(crate) fn read(system: &Path) -> Result<Self, ConfigError> {
        Ok(layer::read_as(&system.join("requirements.toml"))?.unwrap_or_default())
    }
}
