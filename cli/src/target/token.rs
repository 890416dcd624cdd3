//! The token for a server with --ws-auth.

use std::path::Path;

use codex_outgoing::file;
use codex_secret::Secret;

use super::TargetError;

/// Holds the token for a server with --ws-auth; never handed on to programs.
pub(super) const TOKEN_VARIABLE: &str = "CODEX_EXEC_SERVER_TOKEN";

/// The token that the variable holds.
pub(super) fn of_variable() -> Option<Secret> {
    std::env::var(TOKEN_VARIABLE).ok().map(Secret::new).filter(|token| !token.is_blank())
}

/// The token in the file, or else in the variable.
pub(super) fn of_flag(file: Option<&Path>) -> Result<Option<Secret>, TargetError> {
    match file {
        Some(path) => read(path).map(Some),
        None => Ok(of_variable()),
    }
}

/// The token in a file.
pub(crate) fn read(path: &Path) -> Result<Secret, TargetError> {
    let token = file::read_secret(path).map_err(|error| {
        TargetError::Here(format!("can't read the token from {}: {error}", path.display()))
    })?;
    if token.is_blank() {
        return Err(TargetError::Here(format!("the token file {} is empty", path.display())));
    }
    Ok(token)
}
