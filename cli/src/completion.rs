//! `codex completion`: prints a script that teaches a shell our commands and flags.

use clap_complete::Shell;

use crate::output;

/// Flags of `codex completion`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionArgs {
    /// The shell, for example: codex completion zsh > ~/.zfunc/_codex
    #[arg(value_enum, default_value_t = Shell::Bash)]
    shell: Shell,
}

/// Prints the script for `command`, the whole argument tree.
///
/// # Errors
/// The error of a stdout that nobody reads.
pub(crate) fn completion(args: &CompletionArgs, mut command: clap::Command) -> std::io::Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    output::bytes(&script)
}
