//! `codex exec-server env`: environments by name, written down for every command and for released clients.

mod add;
mod list;
mod remove;
mod status;
mod stop;
mod write;

use crate::setup::{ConfigArgs, Setup};
use write::change;

/// Names machines once, for -E NAME everywhere, and says which one is used without it.
///
/// They are written to environments.toml in the Codex home, which released clients read as well, or, where those would not
/// understand an entry, to exec-server-environments.toml beside it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server env add box wss://box.example:8765 --token-file ~/box.token
  codex exec-server env add here unix:///run/user/1000/exec.sock
  codex exec-server env add ci https://registry.example --environment-id ci-1
  codex exec-server env add vm ssh://me@vm.example
  codex exec-server env add web 'ssh://vm|docker://web' --resident
  codex exec-server env add own -- ssh vm codex exec-server --listen stdio
  codex exec-server env use box")]
pub(crate) struct EnvArgs {
    #[command(subcommand)]
    command: EnvCommand,
}

#[derive(Debug, clap::Subcommand)]
enum EnvCommand {
    /// List the environments; a star marks the one in use.
    #[command(visible_alias = "list")]
    Ls(list::ListArgs),
    /// Name an environment.
    Add(add::AddArgs),
    /// Forget an environment, unless a server that was brought there with --resident still runs.
    #[command(visible_alias = "remove")]
    Rm(remove::RemoveArgs),
    /// End the server that stays on a machine where it was brought with --resident.
    Stop(stop::StopArgs),
    /// Use this environment where none is named; `local` for this machine, `none` for none.
    #[command(after_help = "Examples:
  codex exec-server env use box
  codex exec-server env use local")]
    Use(OneArgs),
    /// Let an environment rest: nothing connects to it until it is resumed, and what runs already, as a forward, an attached
    /// terminal or the MCP tools, stops trying to come back to it. A connection that works stays.
    #[command(after_help = "Example:
  codex exec-server env pause box")]
    Pause(OneArgs),
    /// Let a paused environment be connected to again.
    #[command(after_help = "Example:
  codex exec-server env resume box")]
    Resume(OneArgs),
    /// Connect to an environment and say what it is, or with --all to each and say how it stands.
    Status(status::StatusArgs),
}

#[derive(Debug, clap::Args)]
struct OneArgs {
    /// The environment's name.
    #[arg(value_name = "NAME")]
    name: String,
}

impl EnvArgs {
    /// Flags that change the configuration of a server that is started for `status`.
    pub(crate) fn take_config(&mut self) -> ConfigArgs {
        match &mut self.command {
            EnvCommand::Status(args) => std::mem::take(&mut args.config),
            EnvCommand::Stop(args) => std::mem::take(&mut args.config),
            _ => ConfigArgs::default(),
        }
    }
}

/// Does it; gives the exit code.
///
/// # Errors
/// The files can't be read or written, or what was asked for makes no sense.
pub(crate) async fn env(args: EnvArgs, setup: Setup) -> anyhow::Result<u8> {
    match args.command {
        EnvCommand::Ls(args) => list::list(&args, &setup),
        EnvCommand::Add(args) => add::add(args, &setup),
        EnvCommand::Rm(args) => remove::remove(args, &setup).await,
        EnvCommand::Stop(args) => stop::stop(&args, &setup).await,
        EnvCommand::Use(OneArgs { name }) => change(&setup, |edited| edited.set_in_use(&name)),
        EnvCommand::Pause(OneArgs { name }) => change(&setup, |edited| edited.pause(&name, true)),
        EnvCommand::Resume(OneArgs { name }) => change(&setup, |edited| edited.pause(&name, false)),
        EnvCommand::Status(args) => status::status(&args, setup).await,
    }
}
