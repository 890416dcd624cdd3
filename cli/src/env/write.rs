//! Changes what is written down.

use std::path::PathBuf;

use codex_config::environments::{EditError, Edited, edit};
use codex_exec_server::client::Endpoint;

use crate::setup::Setup;

/// Changes the files; gives the exit code.
pub(super) fn change(
    setup: &Setup,
    change: impl FnOnce(&mut Edited) -> Result<(), EditError>,
) -> anyhow::Result<u8> {
    edit(&home(setup)?, &|url, token| Endpoint::check_url(url, token), change)?;
    Ok(0)
}

fn home(setup: &Setup) -> anyhow::Result<PathBuf> {
    setup.own_home().ok_or_else(|| {
        anyhow::anyhow!(
            "there is no Codex home to write to: set HOME, or CODEX_HOME to a directory that exists"
        )
    })
}
