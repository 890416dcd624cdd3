//! `codex man`: writes the manual, one page for each command.

use std::path::PathBuf;

use anyhow::Context as _;

/// Flags of `codex man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  codex man ~/.local/share/man/man1 && man codex-exec-server-cp")]
pub(crate) struct ManArgs {
    /// The directory to write to; it is made if it is missing.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Writes the pages of `command`, the whole argument tree.
///
/// # Errors
/// The directory can't be made or written.
pub(crate) fn man(args: &ManArgs, command: clap::Command) -> anyhow::Result<u8> {
    let failed = || format!("can't write the manual to {}", args.directory.display());
    std::fs::create_dir_all(&args.directory).with_context(failed)?;
    clap_mangen::generate_to(command, &args.directory).with_context(failed)?;
    Ok(0)
}
