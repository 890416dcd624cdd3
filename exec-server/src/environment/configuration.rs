//! What the binary tells of this machine's configuration: the layers under the keys that a client names (12.1), and where
//! skills are (12.3).

use std::fmt;

use codex_exec_protocol::RpcError;
use codex_exec_protocol::discovery::{DiscoveryRoot, ReadConfigParams, ReadConfigResult};
use codex_exec_protocol::encode::json;

use crate::limits::DiscoveryLimits;

/// Knows the files of this machine's configuration, which this library does not.
pub trait Configuration: fmt::Debug + Send + Sync {
    /// Reads the files anew. Called on a thread that may block.
    ///
    /// # Errors
    /// A sentence about the first file that can't be read or understood, without anything that stands in it.
    fn read(&self, asked: &ReadConfigParams) -> Result<ReadConfigResult, String>;

    /// Where the skills of the server's user are (12.3). Does no I/O.
    fn skill_roots(&self) -> Vec<DiscoveryRoot>;
}

/// Checks what is asked for, in the words of released servers.
///
/// # Errors
/// `-32602` for no key, a key of no parts, and more keys than the limits allow.
pub(crate) fn check(asked: &ReadConfigParams, limits: &DiscoveryLimits) -> Result<(), RpcError> {
    let paths = || asked.config_paths.iter().chain(&asked.requirements_paths);
    let most = limits.config_paths;
    match paths().count() {
        0 => return Err(RpcError::invalid_params("at least one config or requirements path is required")),
        count if count > most => {
            return Err(RpcError::invalid_params(format!("at most {most} TOML selectors are allowed")));
        }
        _ => {}
    }
    if paths().any(Vec::is_empty) {
        return Err(RpcError::invalid_params("TOML paths must contain at least one key segment"));
    }
    Ok(())
}

/// Reads what was checked.
///
/// # Errors
/// `-32603` for files that can't be read, and for more than the limits allow.
pub(crate) fn read(
    configuration: &dyn Configuration,
    asked: &ReadConfigParams,
    limits: &DiscoveryLimits,
) -> Result<ReadConfigResult, RpcError> {
    let result = configuration
        .read(asked)
        .map_err(|why| RpcError::internal(format!("failed to load executor-local config: {why}")))?;
    let mut written = Vec::new();
    json(&result, &mut written);
    let most = limits.config_answer_bytes;
    if written.len() > most {
        return Err(RpcError::internal(format!(
            "environment config response exceeds the {most}-byte limit; ask for fewer keys"
        )));
    }
    Ok(result)
}
