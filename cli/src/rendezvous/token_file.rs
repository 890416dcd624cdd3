//! The file that holds the hashes of tokens.

use std::path::Path;

use anyhow::{Context, bail};
use codex_rendezvous::file;
use codex_rendezvous::tokens::{self, Grant};

/// The tokens of a file, one at least.
///
/// # Errors
/// When it can't be read, or a line can't be used.
pub(super) fn read_tokens(path: &Path) -> anyhow::Result<Vec<Grant>> {
    let unreadable = || format!("can't read the tokens' hashes from {}", path.display());
    let text = file::read(path).with_context(unreadable)?;
    let text = std::str::from_utf8(&text).with_context(unreadable)?;
    let grants = tokens::parse_file(text).with_context(|| format!("can't use {}", path.display()))?;
    if grants.is_empty() {
        bail!("{} holds no token; `codex exec-server rendezvous token` makes a line for it", path.display());
    }
    Ok(grants)
}
